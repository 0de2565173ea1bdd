"""The Improve section: cases, fine-tuning, and which case to label next."""
