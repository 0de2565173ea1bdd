"""The state of the panel, kept in the scene's parameter node."""

from typing import Annotated

from slicer import vtkMRMLMarkupsROINode, vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

UNCERTAINTIES = ("dropout", "flips", "both")  # where the uncertainty comes from
FORMATS = (".nrrd", ".nii.gz", ".seg.nrrd")
PATTERN = "{result}"  # of the names of exported files


@parameterNodeWrapper
class Parameters:
    """Widgets whose SlicerParameterName property names a parameter are bound to it."""

    inputVolume: vtkMRMLScalarVolumeNode
    roi: vtkMRMLMarkupsROINode
    model: str = ""
    device: str = "auto"
    passes: Annotated[int, WithinRange(0, 64)] = 8
    uncertainty: Annotated[str, Choice(list(UNCERTAINTIES))] = UNCERTAINTIES[0]
    allComponents: bool = False

    segmentation: vtkMRMLSegmentationNode
    shownClass: int = 1
    showSegmentation: bool = True
    segmentationOpacity: Annotated[float, WithinRange(0.0, 1.0)] = 0.2
    showDistance: bool = True
    distanceOpacity: Annotated[float, WithinRange(0.0, 1.0)] = 0.45
    showUncertainty: bool = True
    uncertaintyOpacity: Annotated[float, WithinRange(0.0, 1.0)] = 0.7
    showSurface: bool = True
    surfaceLeftOut: bool = False  # the panel unticked showSurface, and not the user
    showLegends: bool = True

    base: str = ""  # the model that fine-tuning starts from, see finetuneChoices
    caseFiles: str = ""  # see caseFiles.toText
    targets: str = ""  # what segments are used as, see structures.toText
    iterations: Annotated[int, WithinRange(1, 1_000_000)] = 1000
    method: str = "ugmcl"
    modelName: str = ""
    compare: bool = False
    leaveOneOut: bool = False
    keepNames: bool = False

    reference: vtkMRMLSegmentationNode
    showErrors: bool = True

    exportPattern: str = PATTERN
    exportFormat: Annotated[str, Choice(list(FORMATS))] = FORMATS[0]
    exportAll: bool = False
