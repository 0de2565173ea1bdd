"""The setup of the first run: packages, installation, license."""
