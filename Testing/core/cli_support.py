"""Calls of the command line, and what it leaves."""

from __future__ import annotations

from pathlib import Path

from ugmcl_core.__main__ import main


def segment(model, out, *words):
    return main(
        [
            "segment",
            "--model",
            str(model.folder),
            "--output",
            str(out),
            "--device",
            "cpu",
            "--uncertainty-passes",
            "2",
            *map(str, words),
        ]
    )


def files(folder: Path) -> list[str]:
    """The names in a folder, without manifests."""
    names = (p.name for p in folder.rglob("*"))
    return sorted(n for n in names if not n.endswith("manifest.json"))


def refuse(capsys, *words, why: str, out: Path) -> None:
    """Run, and check the contract: code 2, one line that says why, nothing in `out`."""
    try:
        code = main([str(w) for w in words])
    except SystemExit as end:
        code = end.code
    told = capsys.readouterr()
    assert code == 2, told
    assert told.out == ""
    lines = told.err.splitlines()
    assert len(lines) == 1, told.err
    assert why in lines[0], lines[0]
    assert "Traceback" not in told.err
    left = [p for p in out.rglob("*") if p.is_file()] if out.is_dir() else []
    assert left == []
