"""The Models section: import, export and storage of models."""
