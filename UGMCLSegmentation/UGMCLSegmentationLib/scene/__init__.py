"""MRML nodes: volumes and segmentations as arrays and files, results as nodes."""
