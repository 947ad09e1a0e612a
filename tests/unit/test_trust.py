"""What SECURITY.md promises about files that are read: none of them can run code."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("spn4cir", "stages", "demo", "docsite")
# Modules that run code which a file contains.
UNSAFE = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def nodes(kind: type[ast.AST]) -> Iterator[tuple[str, ast.AST]]:
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, kind):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def test_weights_are_read_without_their_code() -> None:
    """By one call, which checks the file first."""
    ((place, call),) = [(place, node) for place, node in nodes(ast.Call) if ast.unparse(node.func) == "torch.load"]
    assert place.startswith("spn4cir/weights.py:")
    given = {each.arg: ast.unparse(each.value) for each in call.keywords}
    assert given["weights_only"] == "True"


@pytest.mark.parametrize("option", ["allow_pickle", "trust_remote_code"])
def test_no_call_allows_code_of_a_file(option: str) -> None:
    assert [place for place, call in nodes(ast.Call) if option in {each.arg for each in call.keywords}] == []


# Rows that the processes of a Ray cluster send each other; SECURITY.md names the cluster as trusted.
BETWEEN_WORKERS = ("spn4cir/images/ray_cluster.py:", "spn4cir/images/ray_steps.py:")


def test_no_module_that_runs_code_of_a_file_is_used() -> None:
    imported = [(place, alias.name) for place, node in nodes(ast.Import) for alias in node.names]
    imported += [(place, node.module or "") for place, node in nodes(ast.ImportFrom)]
    found = [(place, name) for place, name in imported if name.split(".")[0] in UNSAFE]
    assert [(place, name) for place, name in found if not place.startswith(BETWEEN_WORKERS)] == []


def test_no_command_is_read_by_a_shell() -> None:
    assert [place for place, call in nodes(ast.Call) if "shell" in {each.arg for each in call.keywords}] == []
    assert [place for place, call in nodes(ast.Call) if ast.unparse(call.func) in ("os.system", "os.popen")] == []
