"""Image files and cases: reading, pairing, preprocessing, augmentation, batches."""
