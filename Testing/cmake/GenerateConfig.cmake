# Slicer writes a file here by which other extensions find this one; none needs this one.
