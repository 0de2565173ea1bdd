"""The parts of the UGMCL Segmentation module: panel, scene, child process."""
