"""The place of the results in the subject hierarchy."""

from __future__ import annotations

import slicer
import vtk
from slicer.i18n import tr as _

_FOLDER = "UGMCLSegmentation.Folder"


def place(node, sourceNode) -> None:
    """Put `node` under the source's study if it has one (DICOM export needs that), else in a
    folder that all results share."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    invalid = hierarchy.GetInvalidItemID()
    level = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMLevelStudy()
    parent = invalid
    source = hierarchy.GetItemByDataNode(sourceNode)
    if source != invalid:
        parent = hierarchy.GetItemAncestorAtLevel(source, level)
    if parent == invalid:
        parent = _folder(hierarchy)
    item = hierarchy.GetItemByDataNode(node)
    if item == invalid:
        hierarchy.CreateItem(parent, node)
    else:
        hierarchy.SetItemParent(item, parent)


def _folder(hierarchy):
    """Found by its attribute, as the user may have renamed it."""
    children = vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), children, True)
    for index in range(children.GetNumberOfIds()):
        if hierarchy.HasItemAttribute(children.GetId(index), _FOLDER):
            return children.GetId(index)
    folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), _("UGMCL results"))
    hierarchy.SetItemAttribute(folder, _FOLDER, "1")
    return folder
