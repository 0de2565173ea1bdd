"""Folders on disk: the user's folder, runs and temporary files."""
