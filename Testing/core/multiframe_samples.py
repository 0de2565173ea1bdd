"""Multi-frame DICOM files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
STEP = 1.25
FRAMES = np.random.default_rng(0).integers(0, 1000, (12, 6, 5)).astype(np.uint16)
HEIGHTS = np.arange(12) * STEP


def item(**values) -> Sequence:
    made = Dataset()
    for name, value in values.items():
        setattr(made, name, value)
    return Sequence([made])


def enhanced(
    path: Path,
    order=range(12),
    heights=HEIGHTS,
    orientation=lambda n: [1, 0, 0, 0, 1, 0],
    slope=lambda n: None,
    spacing=(0.6, 0.7),
    intercept=lambda n: 0,
    sop_class=ENHANCED_MR,
) -> Path:
    """An enhanced MR file whose frames are `FRAMES[order]` at `heights[order]`."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    d.SOPClassUID, d.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    d.SeriesInstanceUID, d.StudyInstanceUID, d.Modality = generate_uid(), "1.2.3", "MR"
    order = list(order)
    d.NumberOfFrames = len(order)
    d.Rows, d.Columns = FRAMES.shape[1:]
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 16, 15, 0
    shared = Dataset()
    if spacing is not None:
        shared.PixelMeasuresSequence = item(PixelSpacing=list(spacing), SliceThickness=STEP)
    d.SharedFunctionalGroupsSequence = Sequence([shared])
    groups = []
    for n in order:
        group = Dataset()
        if heights is not None:
            group.PlanePositionSequence = item(ImagePositionPatient=[1, 2, float(heights[n])])
        group.PlaneOrientationSequence = item(ImageOrientationPatient=orientation(n))
        if slope(n) is not None:
            group.PixelValueTransformationSequence = item(
                RescaleSlope=slope(n), RescaleIntercept=intercept(n), RescaleType="US"
            )
        groups.append(group)
    d.PerFrameFunctionalGroupsSequence = Sequence(groups)
    d.PixelData = np.stack([FRAMES[n] for n in order]).tobytes()
    d["PixelData"].VR = "OW"
    path.parent.mkdir(parents=True, exist_ok=True)
    d.save_as(path, enforce_file_format=True)
    return path
