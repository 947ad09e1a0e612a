"""The project files that a module runs, directly or indirectly, and a hash of the code of each."""

import ast
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from spn4cir.errors import InputError
from stages.bare_code import bare_code, registered

_PACKAGES = ("spn4cir", "stages", "demo")
_HASH_LENGTH = 16
_FILE_NAME = re.compile(r"[\w./-]+\.\w+")


@dataclass(frozen=True)
class Module:
    """The modules and files that a source file names.

    Attributes:
        imports: dotted names that it imports, except those under `if TYPE_CHECKING`.
        registered: modules that it names in strings of the form "module:Class".
        files: other files in its folder that it names in a string, such as templates; relative to the root.
    """

    imports: tuple[str, ...]
    registered: tuple[str, ...]
    files: tuple[Path, ...]


class Sources:
    """The source files below a folder. Each file is looked up and read once; create a new object after an edit."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._modules: dict[Path, Module] = {}
        self._hashes: dict[tuple[Path, frozenset[str]], str] = {}
        self._source = cache(self._find_source)
        self._sources = cache(lambda name: tuple(self._find_sources(name)))

    def closure(self, module: str, left_out: frozenset[str] = frozenset()) -> frozenset[Path]:
        """The files that importing `module` can run, and the data files in their folders that they read.

        Imports inside functions count; imports under `if TYPE_CHECKING` do not.

        Args:
            module: dotted name, as in `stages.dedup`.
            left_out: dotted names of modules that are ignored where a registry names them ("module:Class"); an import
                of one still counts.

        Returns:
            Paths relative to the root.

        Raises:
            InputError: the module is absent, or a file is not valid Python.
        """
        if self._source(module) is None:
            raise InputError(f"{self._root}: contains no module '{module}'; correct the import")
        found: set[Path] = set()
        waiting = list(self._sources(module))
        while waiting:
            path = waiting.pop()
            if path in found:
                continue
            found.add(path)
            if path.suffix == ".py":
                content = self._module(path)
                names = [*content.imports, *(name for name in content.registered if name not in left_out)]
                waiting.extend([*content.files, *(source for name in names for source in self._sources(name))])
        return frozenset(found)

    def fingerprint(self, module: str, left_out: frozenset[str] = frozenset()) -> str:
        """One line for each file of the module's closure: hash and path, sorted by path.

        A Python file is hashed without comments, docstrings and blank lines, and without registry entries whose module
        is not in the closure, so that a new entry does not change the hashes of others. The bytes of other files are
        hashed unchanged. The hash does not depend on the version of Python.

        Args:
            module: see `closure`.
            left_out: see `closure`.

        Raises:
            InputError: see `closure`.
        """
        files = self.closure(module, left_out)
        absent = frozenset(name for name in left_out if self._source(name) not in files)
        return "".join(f"{self._hash(path, absent)} {path.as_posix()}\n" for path in sorted(files, key=Path.as_posix))

    def _hash(self, path: Path, absent: frozenset[str]) -> str:
        absent = absent.intersection(self._module(path).registered) if path.suffix == ".py" else frozenset()
        if (path, absent) not in self._hashes:
            is_code = path.suffix == ".py"
            content = bare_code(self._text(path), absent).encode() if is_code else (self._root / path).read_bytes()
            self._hashes[path, absent] = hashlib.sha256(content).hexdigest()[:_HASH_LENGTH]
        return self._hashes[path, absent]

    def _text(self, path: Path) -> str:
        return (self._root / path).read_text(encoding="utf-8")

    def _find_source(self, module: str) -> Path | None:
        base = Path(*module.split("."))
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if (self._root / path).is_file():
                return path
        return None

    def _find_sources(self, name: str) -> Iterator[Path]:
        """The files that an import of a dotted name runs: the module and its packages."""
        parts = name.split(".")
        if parts[0] not in _PACKAGES:
            return
        for end in range(1, len(parts) + 1):
            if source := self._source(".".join(parts[:end])):
                yield source

    def _module(self, path: Path) -> Module:
        if path not in self._modules:
            nodes = list(_running(self._tree(path)))
            self._modules[path] = Module(
                tuple(name for node in nodes for name in _imported(node, path)),
                tuple(registered(nodes)),
                tuple(self._named_files(nodes, path.parent)),
            )
        return self._modules[path]

    def _tree(self, path: Path) -> ast.Module:
        try:
            return ast.parse(self._text(path), str(path))
        except (SyntaxError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: is not valid Python ({error}); correct it") from None

    def _named_files(self, nodes: list[ast.AST], folder: Path) -> Iterator[Path]:
        for node in nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and _FILE_NAME.fullmatch(node.value):
                path = folder / node.value
                if path.suffix != ".py" and (self._root / path).is_file():
                    yield path


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all nodes below it, without blocks that only a type checker reads."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for other in child.orelse:
                yield from _running(other)
        else:
            yield from _running(child)


def _imported(node: ast.AST, path: Path) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = path.parts[: len(path.parts) - node.level] if node.level else ()
        package = ".".join([*above, *([node.module] if node.module else [])])
        yield from (f"{package}.{alias.name}" for alias in node.names)
