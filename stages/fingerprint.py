"""Which of the project's modules a module imports, directly or not: the files that a stage's result depends on."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from spn4cir.errors import InputError

_PACKAGES = ("spn4cir", "stages", "demo")
# Registries name classes as "package.module:Class".
_REGISTERED = re.compile(r"^[a-z_][\w.]*:[A-Z]\w*$")


def import_closure(module: str, root: Path) -> frozenset[Path]:
    """The source files below `root` that importing `module` can run, those that registries name included.

    Imports inside functions count, those under `if TYPE_CHECKING` do not.

    Args:
        module: dotted name, as in `stages.dedup`.
        root: the folder that holds the packages.

    Returns:
        Paths relative to `root`.

    Raises:
        InputError: the module is not there.
    """
    if _source(module, root) is None:
        raise InputError(f"{root}: holds no module '{module}'")
    found: set[Path] = set()
    waiting = list(_sources(module, root))
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting.extend(source for name in _imports(root / path) for source in _sources(name, root))
    return frozenset(found)


def _source(module: str, root: Path) -> Path | None:
    base = Path(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if (root / path).is_file():
            return path
    return None


def _sources(name: str, root: Path) -> Iterator[Path]:
    """The files that an import of a dotted name runs: the module's and its packages'."""
    parts = name.split(".")
    if parts[0] not in _PACKAGES:
        return
    for end in range(1, len(parts) + 1):
        if source := _source(".".join(parts[:end]), root):
            yield source


def _imports(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    skipped = {id(node) for guard in ast.walk(tree) for guarded in _type_guarded(guard) for node in ast.walk(guarded)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _REGISTERED.match(node.value):
            yield node.value.split(":")[0]


def _type_guarded(node: ast.AST) -> list[ast.stmt]:
    """What stands under `if TYPE_CHECKING`; the other branch runs."""
    if not isinstance(node, ast.If):
        return []
    return node.body if ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING") else []
