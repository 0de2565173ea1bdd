"""The state of the panel, kept in the scene's parameter node."""

from typing import Annotated

from slicer import vtkMRMLMarkupsROINode, vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

from ugmcl_core.inference.settings import MOST_PASSES, UNCERTAINTIES
from ugmcl_core.training.settings import DEFAULT_METHOD
from UGMCLSegmentationLib.scene.overlays import OVERLAYS

FORMATS = (".nrrd", ".nii.gz", ".seg.nrrd")
SCRATCH = "(scratch)"  # the base of a training from scratch; no model can have that name
PATTERN = "{result}"  # of the names of exported files


def _withOverlays(cls):
    """Add two parameters for each overlay: whether it is shown, and its opacity."""
    for overlay in OVERLAYS:
        cls.__annotations__[overlay.shownParameter] = bool
        setattr(cls, overlay.shownParameter, overlay.isShown)
        cls.__annotations__[overlay.opacityParameter] = Annotated[float, WithinRange(0.0, 1.0)]
        setattr(cls, overlay.opacityParameter, overlay.opacity)
    return cls


@parameterNodeWrapper
@_withOverlays
class Parameters:
    """The .ui files bind widgets to these by the property SlicerParameterName."""

    inputVolume: vtkMRMLScalarVolumeNode
    roi: vtkMRMLMarkupsROINode
    model: str = ""
    device: str = "auto"
    passes: Annotated[int, WithinRange(0, MOST_PASSES)] = 8
    uncertainty: Annotated[str, Choice(list(UNCERTAINTIES))] = UNCERTAINTIES[0]
    allComponents: bool = False

    segmentation: vtkMRMLSegmentationNode
    shownClass: int = 1
    showSegmentation: bool = True
    segmentationOpacity: Annotated[float, WithinRange(0.0, 1.0)] = 0.2
    showSurface: bool = True
    surfaceLeftOut: bool = False  # the panel, not the user, unticked showSurface
    showLegends: bool = True

    base: str = ""  # the model that fine-tuning starts from, see finetuning.settings
    channels: str = ""  # of a training from scratch: names of the images of a case, with commas
    caseFiles: str = ""  # see caseFiles.toText
    targets: str = ""  # the use of segments, see structures.toText
    iterations: Annotated[int, WithinRange(1, 1_000_000)] = 1000
    minutes: Annotated[int, WithinRange(0, 10_000)] = 0  # above 0 they set the iterations
    method: str = DEFAULT_METHOD
    checkMinutes: Annotated[int, WithinRange(1, 120)] = 3  # between two checks of Keep learning
    cores: Annotated[int, WithinRange(10, 100)] = 50  # percent of them that it takes
    modelName: str = ""
    compare: bool = False
    leaveOneOut: bool = False
    keepNames: bool = False
    replan: bool = False

    reference: vtkMRMLSegmentationNode
    showErrors: bool = True

    exportPattern: str = PATTERN
    exportFormat: Annotated[str, Choice(list(FORMATS))] = FORMATS[0]
    exportAll: bool = False
