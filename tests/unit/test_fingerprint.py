"""The files that a module's result depends on, in a package written by the test."""

import re
from pathlib import Path

import pytest

from spn4cir.errors import InputError
from stages.fingerprint import Sources

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
    "spn4cir/deep.py": '"""spn4cir.mentioned:Class occurs in a sentence."""\nplain = "spn4cir.mentioned"\n',
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
    return {path.as_posix() for path in Sources(root).closure(module)}


def test_direct_indirect_late_and_registered_imports(root: Path) -> None:
    """A name in a sentence is not an import; circular imports end."""
    names = ["__init__", "a", "b", "c", "late", "registered", "deep", "pack/__init__", "pack/inner"]
    assert closure(root) == {"stages/__init__.py", "stages/go.py", *(f"spn4cir/{name}.py" for name in names)}


@pytest.mark.parametrize("guard", ["TYPE_CHECKING", "typing.TYPE_CHECKING"])
def test_imports_for_the_type_checker_do_not_count(root: Path, guard: str) -> None:
    """The `else` branch of a type-checking block counts."""
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
    with pytest.raises(InputError, match=r"contains no module 'stages\.none'"):
        Sources(root).closure("stages.none")


def test_a_file_that_is_not_python_is_named(root: Path) -> None:
    (root / "spn4cir/late.py").write_text("def half(:\n")
    with pytest.raises(InputError, match=r"spn4cir/late\.py: is not valid Python"):
        Sources(root).closure("stages.go")


def test_relative_imports_count(root: Path) -> None:
    (root / "spn4cir/pack/inner.py").write_text(
        "from . import deeper\nfrom .. import mentioned\nfrom ..unused import x\n"
    )
    (root / "spn4cir/pack/deeper.py").write_text("")
    assert closure(root) >= {"spn4cir/pack/deeper.py", "spn4cir/mentioned.py", "spn4cir/unused.py"}


def test_files_beside_a_module_that_it_names_count(root: Path) -> None:
    """Named templates and tables count; a module's own name and files in other folders do not."""
    (root / "spn4cir/pack/inner.py").write_text('names = "page.html", "absent.html", "go.py", "parts/style.css"\n')
    for name in ("spn4cir/pack/page.html", "spn4cir/pack/parts/style.css", "spn4cir/page.html"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("x")
    assert {name for name in closure(root) if not name.endswith(".py")} == {
        "spn4cir/pack/page.html",
        "spn4cir/pack/parts/style.css",
    }
    before = Sources(root).fingerprint("stages.go")
    (root / "spn4cir/pack/page.html").write_text("y")
    assert changed(before, Sources(root).fingerprint("stages.go")) == {"spn4cir/pack/page.html"}


def changed(before: str, after: str) -> set[str]:
    """The paths of lines that occur in only one of two fingerprints."""
    return {line.split()[1] for line in set(before.splitlines()) ^ set(after.splitlines())}


def test_a_fingerprint_is_a_line_a_file_in_order(root: Path) -> None:
    lines = Sources(root).fingerprint("stages.go").splitlines()
    assert [line.split()[1] for line in lines] == sorted(closure(root))
    assert all(re.fullmatch(r"[0-9a-f]{16} \S+", line) for line in lines)


def test_code_changes_its_own_line_and_a_comment_none(root: Path) -> None:
    before = Sources(root).fingerprint("stages.go")
    late = root / "spn4cir/late.py"
    late.write_text('"""A docstring."""\n\n# and a comment\n')
    (root / "spn4cir/unused.py").write_text("x = 1\n")
    assert Sources(root).fingerprint("stages.go") == before
    late.write_text("x = 1\n")
    assert changed(before, Sources(root).fingerprint("stages.go")) == {"spn4cir/late.py"}


REGISTRY = """REGISTRY = {
    "one": "spn4cir.one:Class",
    "two": Entry(
        "spn4cir.two:Class",
    ),
}
"""


def register(root: Path) -> None:
    (root / "spn4cir/late.py").write_text(REGISTRY)
    for name in ("one", "two"):
        (root / f"spn4cir/{name}.py").write_text(f"import spn4cir.of_{name}\n")
        (root / f"spn4cir/of_{name}.py").write_text("")


def test_what_a_registry_names_beside_the_chosen_is_left_out(root: Path) -> None:
    """Modules that only it imports are left out too; a direct import of it counts."""
    register(root)
    left_out = frozenset({"spn4cir.two"})
    found = {path.as_posix() for path in Sources(root).closure("stages.go", left_out)}
    assert closure(root) - found == {"spn4cir/two.py", "spn4cir/of_two.py"}
    (root / "spn4cir/of_one.py").write_text("import spn4cir.two\n")
    found = {path.as_posix() for path in Sources(root).closure("stages.go", left_out)}
    assert found == closure(root)


def test_a_new_entry_of_a_registry_changes_nothing_for_the_others(root: Path) -> None:
    """The entry of a module that is also imported is part of the hash."""
    register(root)
    others = frozenset({"spn4cir.two", "spn4cir.three"})
    before = Sources(root).fingerprint("stages.go", others)
    (root / "spn4cir/three.py").write_text("")
    late = root / "spn4cir/late.py"
    late.write_text(REGISTRY.replace("}\n", '    "three": Entry("spn4cir.three:Class", containers=(1, 2)),\n}\n'))
    assert Sources(root).fingerprint("stages.go", others) == before
    assert changed(before, Sources(root).fingerprint("stages.go", frozenset({"spn4cir.two"}))) == {
        "spn4cir/late.py",
        "spn4cir/three.py",
    }
    (root / "spn4cir/of_one.py").write_text("import spn4cir.three\n")
    assert "spn4cir/late.py" in changed(before, Sources(root).fingerprint("stages.go", others))


# What the pipeline runs: a fingerprint sees imports, strings "module:Class" and names of files in the module's folder.
PROJECT = Path(__file__).parents[2]
SOURCES = Sources(PROJECT)
RUN = frozenset().union(*(SOURCES.closure(f"stages.{path.stem}") for path in (PROJECT / "stages").glob("[!_]*.py")))
# The registries; the public names of the package, which no stage takes from it; a library's module.
IMPORTING_BY_NAME = {
    "spn4cir/__init__.py",
    "spn4cir/comparison/runs.py",  # dvc.api alone
    "spn4cir/composers/__init__.py",
    "spn4cir/datasets/__init__.py",
    "spn4cir/positives/llava_files.py",
    # Of registries that fingerprints resolve: RERANKERS, CAPTIONERS, WRITERS.
    "stages/adjustments.py",
    "stages/caption.py",
    "stages/triplets.py",
}
READ_BY_COMMANDS_ALONE = {
    "spn4cir/checkpoints/model_card.md",
    "spn4cir/projects/named_recipes.yaml",
    "spn4cir/projects/published_values.yaml",
    "spn4cir/report/compare.css",
    "spn4cir/report/compare.html",
    "spn4cir/report/compare.js",
    "spn4cir/report/compare_query.html",
    "spn4cir/serving/focus.js",
    "spn4cir/serving/keys.js",
    "spn4cir/serving/page.css",
}


def test_stages_import_no_module_by_a_name_that_a_fingerprint_does_not_see() -> None:
    """An edit of a module that no fingerprint sees would rerun nothing."""
    texts = {path.as_posix(): (PROJECT / path).read_text(encoding="utf-8") for path in RUN if path.suffix == ".py"}
    by_name = re.compile(r"\b(import_module|__import__|run_module|run_path)\(|(?<![.\w])(exec|eval)\(")
    assert {name for name, text in texts.items() if by_name.search(text)} == IMPORTING_BY_NAME
    public = re.compile(r"from spn4cir import (?!\()|^\s*import (tests|docsite)|from (tests|docsite)[. ]", re.MULTILINE)
    assert [name for name, text in texts.items() if public.search(text)] == []
    assert [name for name, text in texts.items() if re.search(r"\b__doc__\b", text)] == []


def test_every_data_file_of_the_package_counts() -> None:
    """Files that no stage reads are excepted; a file named by parts, or from another folder, would change unnoticed."""
    files = {path for path in (PROJECT / "spn4cir").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    data = {path.relative_to(PROJECT).as_posix() for path in files if path.suffix != ".py"}
    assert data - {path.as_posix() for path in RUN} == READ_BY_COMMANDS_ALONE


def test_no_module_has_the_name_of_a_package() -> None:
    """Python would import the package, but the fingerprint would hash the module."""
    for folder in ("spn4cir", "stages", "demo"):
        assert [
            path for path in (PROJECT / folder).rglob("*.py") if (path.with_suffix("") / "__init__.py").exists()
        ] == []
