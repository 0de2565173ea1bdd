"""Stand-ins for the CTK and qMRML widgets of the module's panel, no richer than the real ones.

Only what the C++ headers declare as property, signal, public slot or Q_INVOKABLE is public here;
everything else starts with an underscore.
"""

from __future__ import annotations

from .collapsible import ctkCollapsibleButton, ctkCollapsibleGroupBox
from .combos import ctkCheckableComboBox
from .mrml import qMRMLWidget, qSlicerWidget
from .nodecombo import qMRMLNodeComboBox
from .paths import ctkPathLineEdit
from .sliders import ctkSliderWidget
from .tables import qMRMLPlotView, qMRMLTableView

CTK: list[type] = [
    ctkCheckableComboBox, ctkCollapsibleButton, ctkCollapsibleGroupBox, ctkPathLineEdit,
    ctkSliderWidget,
]
MRML: list[type] = [
    qMRMLNodeComboBox, qMRMLPlotView, qMRMLTableView, qMRMLWidget, qSlicerWidget,
]
