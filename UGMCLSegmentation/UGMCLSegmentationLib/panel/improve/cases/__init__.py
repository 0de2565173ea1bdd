"""The case list: volumes with their roles, labels and structures."""
