"""The Display section: overlays, legends, surface, uncertain regions."""
