"""slicer.parameterNodeWrapper: typed parameters in a vtkMRMLScriptedModuleNode.

Values are written in the genuine package's format, so that scenes are exchangeable.
"""

from __future__ import annotations

from .annotations import (
    Decimals,
    Default,
    SingleStep,
    findFirstAnnotation,
    getNodeTypes,
    isNodeOrUnionOfNodes,
    splitAnnotations,
    unannotatedType,
)
from .connector import GuiConnector, createGuiConnector, parameterNodeGuiConnector
from .connectors import SlicerPackParameterNamePropertyName
from .containers import DictSerializer, ListSerializer, TupleSerializer, UnionSerializer
from .packs import FloatRange, isParameterPack, nestedParameterNames, parameterPack
from .serializers import (
    BoolSerializer,
    NodeSerializer,
    NumberSerializer,
    PathSerializer,
    Serializer,
    StringSerializer,
    ValidatedSerializer,
    parameterNodeSerializer,
)
from .validators import (
    Choice,
    Exclude,
    IsInstance,
    Maximum,
    Minimum,
    NotNone,
    RangeBounds,
    Validator,
    WithinRange,
)
from .wrapper import (
    SlicerParameterNamePropertyName,
    findChildWidgetForParameter,
    isParameterNodeWrapper,
    parameterNodeWrapper,
)

__all__ = [
    "BoolSerializer",
    "Choice",
    "Decimals",
    "Default",
    "DictSerializer",
    "Exclude",
    "FloatRange",
    "GuiConnector",
    "IsInstance",
    "ListSerializer",
    "Maximum",
    "Minimum",
    "NodeSerializer",
    "NotNone",
    "NumberSerializer",
    "PathSerializer",
    "RangeBounds",
    "Serializer",
    "SingleStep",
    "SlicerPackParameterNamePropertyName",
    "SlicerParameterNamePropertyName",
    "StringSerializer",
    "TupleSerializer",
    "UnionSerializer",
    "ValidatedSerializer",
    "Validator",
    "WithinRange",
    "createGuiConnector",
    "findChildWidgetForParameter",
    "findFirstAnnotation",
    "getNodeTypes",
    "isNodeOrUnionOfNodes",
    "isParameterNodeWrapper",
    "isParameterPack",
    "nestedParameterNames",
    "parameterNodeGuiConnector",
    "parameterNodeSerializer",
    "parameterNodeWrapper",
    "parameterPack",
    "splitAnnotations",
    "unannotatedType",
]
