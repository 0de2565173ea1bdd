"""Models that other programs trained: what they need is carried over into a card of this program,
so that the same windows, views and overlays serve them. They segment; they are not trained
further."""
