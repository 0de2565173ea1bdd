"""The methods of other papers, one file each, for comparison with UG-MCL."""
