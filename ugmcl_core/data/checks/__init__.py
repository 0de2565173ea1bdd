"""What is checked in image files before their voxels and their geometry are believed."""
