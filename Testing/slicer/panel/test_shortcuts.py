"""The keys: they do what their buttons do, while the module is open and not otherwise."""

from __future__ import annotations

import module_support as support


def press(panel, key: str) -> None:
    """As Qt does with a key whose shortcut is on."""
    made = {s.key.toString(): s for s, _slot in panel.widget.shortcuts._made}
    if made[key].isEnabled():
        made[key].activated.emit()


def test_the_keys_press_their_buttons(panel):
    press(panel, "Alt+G")
    assert not panel.widget.logic.running  # there is no volume: the button is not enabled
    panel.select(support.add_volume())
    press(panel, "Alt+G")
    assert panel.widget.logic.running
    panel.finish()
    for number, name in enumerate(("showSegmentation", "showDistance", "showUncertainty"), 1):
        before = getattr(panel.parameters, name)
        press(panel, f"Alt+{number}")
        assert getattr(panel.parameters, name) != before
    assert panel.ui.nextSpotButton.enabled
    press(panel, "Alt+N")


def test_they_rest_while_another_module_is_open(panel):
    panel.select(support.add_volume())
    panel.loaded.exit()
    press(panel, "Alt+G")
    assert not panel.widget.logic.running
    panel.loaded.enter()
    press(panel, "Alt+G")
    assert panel.widget.logic.running
    panel.finish()


def test_tool_tips_name_them(panel):
    from UGMCLSegmentationLib.panel import shortcuts

    for key, name in shortcuts.KEYS:
        if name.startswith("show"):  # the others' tips say what they wait for
            tip = getattr(panel.ui, name).toolTip
            # Slicer makes a paragraph of a plain tip; the key belongs into it
            assert key in tip and tip.startswith("<p>") and tip.endswith("</p>"), tip


def test_no_key_has_two_meanings():
    from UGMCLSegmentationLib.panel import shortcuts

    keys = [key for key, _name in shortcuts.KEYS]
    assert len(keys) == len(set(keys))
