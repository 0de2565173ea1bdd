"""The Evaluate section: compare a result with a reference."""
