"""The Segment and All volumes sections: the segmentation of volumes."""
