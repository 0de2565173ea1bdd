"""Measures of a segmentation, and comparison of predictions with references."""
