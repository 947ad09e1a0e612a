"""Writes the parts of the pages that are generated from the code: the help of commands, and summaries of modules.

`python -m docsite.generated` writes them after the mark of the command or module, so that they can also be read on the
web page of a code host. A test compares the pages with the code.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from typer.testing import CliRunner

from spn4cir.cli import app
from spn4cir.errors import InputError
from spn4cir.files import atomic_file

_PACKAGE = "spn4cir"
_MARK = "<!-- {} -->"
_END = _MARK.format("end")
# A mark, and the text that was written after it before.
_MARKED = re.compile(r"<!-- (?:help of|module) \S+ -->|<!-- all other modules -->")
_BLOCK = re.compile(rf"({_MARKED.pattern})\n(?:(?:(?!<!-- ).)*?{_END}\n)?", re.DOTALL)
_MODULE = re.compile(r"<!-- module (\S+) -->")


def write_pages(docs: Path) -> list[Path]:
    """Updates the generated text of the pages below `docs`; returns the pages that changed.

    Raises InputError if a mark names no command or module.
    """
    changed = []
    for path in sorted(docs.rglob("*.md")):
        old = path.read_text(encoding="utf-8")
        new = generate(old, docs)
        if new != old:
            with atomic_file(path) as temporary:
                temporary.write_text(new, encoding="utf-8")
            changed.append(path)
    return changed


def generate(page: str, docs: Path) -> str:
    """Returns a page with current text after each mark. Raises InputError if a mark names no command or module."""
    return _BLOCK.sub(lambda found: f"{found[1]}\n{_text(found[1], docs)}{_END}\n", page)


def directives(page: str, docs: Path) -> str:
    """Returns a page for the site: directives of mkdocstrings, which show whole modules, replace their summaries."""
    return _BLOCK.sub(lambda found: _directives(found, docs), page)


def other_modules(docs: Path) -> list[str]:
    """Returns the modules of the package that no page below `docs/reference` names."""
    pages = (docs / "reference").glob("*.md")
    named = {name for page in pages for name in _MODULE.findall(page.read_text(encoding="utf-8"))}
    paths = (path.relative_to(docs.parent).with_suffix("") for path in (docs.parent / _PACKAGE).rglob("*.py"))
    return sorted({".".join(path.parts).removesuffix(".__init__") for path in paths} - named)


def _directives(found: re.Match[str], docs: Path) -> str:
    names = _modules(found[1], docs)
    return "".join(f"::: {name}\n\n" for name in names) if names else found[0]


def _modules(mark: str, docs: Path) -> list[str]:
    """Returns the modules that a mark names; none for a mark of a command."""
    if module := _MODULE.fullmatch(mark):
        return [module[1]]
    return other_modules(docs) if "modules" in mark else []


def _text(mark: str, docs: Path) -> str:
    if modules := _modules(mark, docs):
        return "\n" + "\n".join(_contents(name, docs.parent) for name in modules) + "\n"
    return _help(mark.split()[3])


def _help(command: str) -> str:
    """Returns the output of `spn4cir COMMAND --help`, as a block of text."""
    done = CliRunner(env={"COLUMNS": "80"}).invoke(app, [command, "--help"], prog_name="spn4cir")
    if done.exit_code:
        raise InputError(f"'{command}' is no command of spn4cir; correct the mark in the page")
    return f"\n```text\n{done.output.rstrip()}\n```\n\n"


def _contents(module: str, root: Path) -> str:
    """Returns a link to the source of a module, its summary, and a line for each public class and function."""
    place = root.joinpath(*module.split("."))
    path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    if not path.is_file():
        raise InputError(f"'{module}' is no module; correct the mark in the page")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    title = f"{_anchor(module)}**[`{module}`](../../{path.relative_to(root).as_posix()})**: {_summary(tree)}\n\n"
    return title + "".join(
        f"- {_anchor(f'{module}.{node.name}')}`{node.name}`: {_summary(node)}\n" for node in _public(tree)
    )


def _anchor(name: str) -> str:
    """Returns the anchor that mkdocstrings gives a name in the site, so that links work in the committed page too."""
    return f'<a id="{name}"></a>'


def _public(tree: ast.Module) -> Iterator[ast.ClassDef | ast.FunctionDef]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            yield node


def _summary(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> str:
    """Returns the first paragraph of a docstring as one line."""
    return " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())


if __name__ == "__main__":
    for page in write_pages(Path("docs")):
        print(f"{page}: written")
