"""The panel, one folder for each section, and what its sections share."""
