"""Numbers that several parts of the program must agree on."""

MOST_PASSES = 64
"""More Monte Carlo passes than this change nothing but the time they take."""

MOST_PATCHES = 2.7
"""Of how many patches' voxels a volume may be that goes through the network as one window."""

MOST_OVERLAP = 0.9
"""The part of a window that its neighbor covers too, at most: beyond, ever more windows tell ever
less."""

UNCERTAINTIES = ("dropout", "flips", "both")
"""What the samples are whose mean's entropy is the uncertainty: see `windows.predict_mirrored`."""

BAND_MM = 5.0
"""How near a surface (mm) a voxel counts for the measures of signed distance and uncertainty."""
