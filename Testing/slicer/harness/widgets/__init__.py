"""Stand-ins for CTK and qMRML widgets, no richer than the real classes.

Only what the C++ headers declare as property, signal, public slot or Q_INVOKABLE is public here;
everything else starts with an underscore.
"""

from __future__ import annotations

from .collapsible import ctkCollapsibleButton, ctkCollapsibleGroupBox
from .combos import ctkCheckableComboBox, ctkComboBox, qMRMLColorTableComboBox
from .mrml import qMRMLSliderWidget, qMRMLSpinBox, qMRMLWidget, qSlicerWidget
from .nodecombo import qMRMLNodeComboBox
from .paths import ctkDirectoryButton, ctkPathLineEdit
from .segments import qMRMLSegmentSelectorWidget, qMRMLSegmentsTableView
from .simple import ctkCheckBox, ctkFittedTextBrowser, ctkMenuButton, ctkMessageBox, ctkPushButton
from .sliders import ctkDoubleSlider, ctkDoubleSpinBox, ctkRangeWidget, ctkSliderWidget
from .tables import qMRMLPlotView, qMRMLPlotWidget, qMRMLTableView
from .tree import qMRMLSubjectHierarchyTreeView

CTK: list[type] = [
    ctkCheckBox, ctkCheckableComboBox, ctkCollapsibleButton, ctkCollapsibleGroupBox, ctkComboBox,
    ctkDirectoryButton, ctkDoubleSlider, ctkDoubleSpinBox, ctkFittedTextBrowser, ctkMenuButton,
    ctkMessageBox, ctkPathLineEdit, ctkPushButton, ctkRangeWidget, ctkSliderWidget,
]
MRML: list[type] = [
    qMRMLColorTableComboBox, qMRMLNodeComboBox, qMRMLPlotView, qMRMLPlotWidget,
    qMRMLSegmentSelectorWidget, qMRMLSegmentsTableView, qMRMLSliderWidget, qMRMLSpinBox,
    qMRMLSubjectHierarchyTreeView, qMRMLTableView, qMRMLWidget, qSlicerWidget,
]
