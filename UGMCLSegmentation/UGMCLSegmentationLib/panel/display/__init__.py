"""The Display section: overlays, legends, surface, doubtful spots."""
