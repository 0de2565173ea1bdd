"""The place of the results in the subject hierarchy."""

from __future__ import annotations

import slicer
import vtk
from slicer.i18n import tr as _

_FOLDER = "UGMCLSegmentation.Folder"


def tree():
    """The subject hierarchy of the scene."""
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)


def studyOf(node):
    """The item of the study that the node is in, the invalid one without a study."""
    level = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMLevelStudy()
    item = tree().GetItemByDataNode(node)
    return tree().GetItemAncestorAtLevel(item, level) if item else tree().GetInvalidItemID()


def studyName(node) -> str:
    """The name of the study that the node is in, "" without one."""
    item = studyOf(node)
    return tree().GetItemName(item) if item != tree().GetInvalidItemID() else ""


def ancestors(node) -> list[int]:
    """The items of the study and of the patient that the node is in, where there are any."""
    constants, hierarchy = slicer.vtkMRMLSubjectHierarchyConstants, tree()
    item, invalid = hierarchy.GetItemByDataNode(node), hierarchy.GetInvalidItemID()
    if item == invalid:
        return []
    levels = constants.GetDICOMLevelStudy(), constants.GetDICOMLevelPatient()
    found = (hierarchy.GetItemAncestorAtLevel(item, level) for level in levels)
    return [ancestor for ancestor in found if ancestor != invalid]


def beneath(item) -> list[int]:
    """All items beneath this one."""
    items = vtk.vtkIdList()
    tree().GetItemChildren(item, items, True)
    return [items.GetId(n) for n in range(items.GetNumberOfIds())]


def place(node, sourceNode) -> None:
    """Put `node` under the source's study if it has one (DICOM export needs that), else in a
    folder that all results share."""
    hierarchy = tree()
    invalid = hierarchy.GetInvalidItemID()
    parent = studyOf(sourceNode)
    if parent == invalid:
        parent = _folder(hierarchy)
    item = hierarchy.GetItemByDataNode(node)
    if item == invalid:
        hierarchy.CreateItem(parent, node)
    else:
        hierarchy.SetItemParent(item, parent)


def _folder(hierarchy):
    """Found by its attribute, as the user may have renamed it."""
    for item in beneath(hierarchy.GetSceneItemID()):
        if hierarchy.HasItemAttribute(item, _FOLDER):
            return item
    folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), _("UGMCL results"))
    hierarchy.SetItemAttribute(folder, _FOLDER, "1")
    return folder
