"""The names that users import from the package itself."""

import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

import spn4cir
from spn4cir.cli import app


def test_public_names_come_from_their_modules() -> None:
    from spn4cir.search.encoder import Encoder
    from spn4cir.search.hits import Hit
    from spn4cir.search.mteb import MtebModel
    from spn4cir.search.retriever import Retriever
    from spn4cir.standalone.train import train

    names = [name for name in spn4cir.__all__ if name != "__version__"]
    assert [getattr(spn4cir, name) for name in names] == [Encoder, Hit, MtebModel, Retriever, train]


def test_the_package_alone_loads_nothing_else() -> None:
    """An import takes milliseconds; a class takes the seconds in which torch is imported."""
    slow = ("spn4cir.", "torch", "numpy", "PIL", "pydantic", "importlib.metadata")
    code = f"import sys, spn4cir; print(*(name for name in sys.modules if name.startswith({slow!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_version_is_that_of_the_project() -> None:
    """The citation has the same version."""
    root = Path(__file__).parents[2]
    assert spn4cir.__version__ == tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    assert f"\nversion: {spn4cir.__version__}\n" in (root / "CITATION.cff").read_text()
    assert CliRunner().invoke(app, ["--version"]).output == f"spn4cir {spn4cir.__version__}\n"


def test_no_two_classes_share_a_name() -> None:
    root = Path(__file__).parents[2]
    paths = [path for folder in ("spn4cir", "stages", "demo") for path in (root / folder).rglob("*.py")]
    names = [name for path in paths for name in re.findall(r"^class (\w+)", path.read_text(encoding="utf-8"), re.M)]
    assert [name for name, count in Counter(names).items() if count > 1] == []


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'spn4cir' has no attribute 'Nothing'"):
        _ = spn4cir.Nothing
