"""Nodes that the scene has once, known by an attribute: the user may rename them."""

from __future__ import annotations

from collections.abc import Sequence

import slicer
import vtk

from UGMCLSegmentationLib.scene import results


def find(className: str, attribute: str, value: str):
    """The first node of the class whose attribute has this value, or None."""
    nodes = slicer.util.getNodesByClass(className)
    return next((node for node in nodes if node.GetAttribute(attribute) == value), None)


def findOrAdd(className: str, attribute: str, value: str, name: str = ""):
    """The same; a new node, with this name, if there is none."""
    node = find(className, attribute, value)
    if node is None:
        node = slicer.mrmlScene.AddNewNodeByClass(className, name)
        node.SetAttribute(attribute, value)
    return node


def fillTable(role: str, name: str, titles: Sequence[str], rows: Sequence[Sequence[str]]):
    """Fill the table node of this role with texts; returns the node."""
    node = findOrAdd("vtkMRMLTableNode", results.ROLE, role)
    node.SetName(name)
    setColumns(node, vtk.vtkStringArray, titles, rows)
    node.SetUseColumnTitleAsColumnHeader(True)
    return node


def setColumns(tableNode, arrayClass: type, titles: Sequence[str], rows: Sequence[Sequence]):
    """Replace the contents of a table node; the values go into arrays of this class."""
    table = vtk.vtkTable()
    for index, title in enumerate(titles):
        column = arrayClass()
        column.SetName(title)
        for row in rows:
            column.InsertNextValue(row[index])
        table.AddColumn(column)
    tableNode.SetAndObserveTable(table)
