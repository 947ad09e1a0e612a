"""The notebook of the tutorial: its cells run in order, and it is committed without outputs."""

import json
import sys
import tempfile

import matplotlib as mpl
import pytest

from tests.helpers.blocks import ROOT

NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"
# They are lowered and replaced, because a test has neither minutes nor the hub.
SMALLER = (
    ("range(300)", "range(40)"),
    ("[:-100]", "[:-20]"),
    ("[-100:]", "[-20:]"),
    ("(4, 4)", "(1, 1)"),
    ("(64, 64)", "(16, 16)"),
)


@pytest.fixture
def cells() -> list[dict]:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def test_the_cells_run_in_order(cells, clip_folder, tmp_path, monkeypatch, capsys):
    """In the notebook's folder, as Jupyter runs them; what they write is in a temporary folder."""
    monkeypatch.chdir(NOTEBOOK.parent)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "path", [*sys.path])
    mpl.use("agg")
    names: dict = {"__name__": "__main__"}
    for cell in cells:
        if cell["cell_type"] == "code":
            text = "".join(cell["source"])
            for old, new in SMALLER:
                text = text.replace(old, new)
            exec(compile(text, f"{NOTEBOOK.name}, {cell['id']}", "exec"), names)
            if "base" in names:
                names["base"] = f"local-dir:{clip_folder}"
    (folder,) = tmp_path.glob("tmp*")
    assert {"before.png", "after.png", "trained", "catalogue"} <= {path.name for path in folder.iterdir()}
    said = capsys.readouterr().out
    assert "R@10 before training" in said
    assert "R@10 after training" in said


def test_what_the_test_lowers_is_there(cells):
    text = "".join("".join(cell["source"]) for cell in cells)
    assert [old for old, _ in SMALLER if old not in text] == []


def test_it_is_committed_without_outputs(cells):
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["id"] for cell in code if cell["outputs"] or cell["execution_count"]] == []
