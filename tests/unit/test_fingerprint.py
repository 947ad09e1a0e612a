"""Which files a module's result depends on, on a package written here."""

from pathlib import Path

import pytest

from spn4cir.errors import InputError
from stages.fingerprint import import_closure

FILES = {
    "stages/__init__.py": "",
    "stages/go.py": "import os\nfrom spn4cir.a import thing\n",
    "spn4cir/__init__.py": "",
    "spn4cir/a.py": "import spn4cir.b\nfrom spn4cir import c\nfrom spn4cir.pack import inner, name\n",
    "spn4cir/b.py": "def late():\n    from spn4cir.late import x\n",
    "spn4cir/c.py": "from spn4cir.a import thing\n",  # a circle
    "spn4cir/late.py": "",
    "spn4cir/pack/__init__.py": 'name = 1\nREGISTRY = {"r": "spn4cir.registered:Class"}\n',
    "spn4cir/pack/inner.py": "",
    "spn4cir/registered.py": "from spn4cir.deep import x\n",
    "spn4cir/deep.py": '"""spn4cir.mentioned:Class stands in a sentence."""\nplain = "spn4cir.mentioned"\n',
    "spn4cir/mentioned.py": "",
    "spn4cir/unused.py": "",
    "other/thing.py": "",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def closure(root: Path, module: str = "stages.go") -> set[str]:
    return {path.as_posix() for path in import_closure(module, root)}


def test_direct_indirect_late_and_registered_imports(root: Path) -> None:
    """A name that a sentence mentions is no import; a circle ends."""
    names = ["__init__", "a", "b", "c", "late", "registered", "deep", "pack/__init__", "pack/inner"]
    assert closure(root) == {"stages/__init__.py", "stages/go.py", *(f"spn4cir/{name}.py" for name in names)}


@pytest.mark.parametrize("guard", ["TYPE_CHECKING", "typing.TYPE_CHECKING"])
def test_imports_for_the_type_checker_do_not_count(root: Path, guard: str) -> None:
    """What runs when it is not checking does."""
    (root / "spn4cir/late.py").write_text(
        f"import typing\nfrom typing import TYPE_CHECKING\nif {guard}:\n    from spn4cir.unused import x\n"
        "else:\n    from spn4cir.mentioned import x\n"
    )
    assert "spn4cir/unused.py" not in closure(root)
    assert "spn4cir/mentioned.py" in closure(root)


def test_modules_of_other_packages_do_not_count(root: Path) -> None:
    (root / "spn4cir/late.py").write_text("import other.thing\nimport json\n")
    assert not any(name.startswith("other") for name in closure(root))


def test_a_module_that_is_not_there(root: Path) -> None:
    with pytest.raises(InputError, match=r"holds no module 'stages\.none'"):
        import_closure("stages.none", root)
