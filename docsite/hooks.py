"""Steps of the build of the site, called by mkdocs (see `hooks` in mkdocs.yml)."""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

from docsite.bundles import KATEX, MERMAID, fetch
from docsite.formulas import render_formulas
from docsite.options import help_of
from spn4cir.errors import InputError

_PACKAGE = "spn4cir"
_HELP = re.compile(r"<!-- help of (\S+) -->")
_MODULES = "<!-- all other modules -->"
_NAMED = re.compile(r"^::: (spn4cir\S*)$", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Adds the files of KaTeX and Mermaid, which pages load from the site itself."""
    try:
        for bundle in (KATEX, MERMAID):
            folder = fetch(bundle)
            for path in sorted(found for pattern in bundle.files for found in folder.glob(pattern)):
                name = f"bundled/{path.relative_to(folder).as_posix()}"
                files.append(File.generated(config, name, abs_src_path=str(path.resolve())))
    except InputError as error:
        raise PluginError(str(error)) from None
    return files


def on_page_markdown(markdown: str, config: MkDocsConfig, **_: Any) -> str:
    """Fills in the help of commands, and the modules that no page of the reference names."""
    markdown = _HELP.sub(lambda match: help_of(match[1]), markdown)
    return markdown.replace(_MODULES, "\n\n".join(f"::: {name}" for name in other_modules(Path(config.docs_dir))))


def other_modules(docs: Path) -> list[str]:
    """Modules of the package that no page below `docs/reference` names."""
    named = {name for page in (docs / "reference").glob("*.md") for name in _NAMED.findall(page.read_text("utf-8"))}
    paths = (path.relative_to(docs.parent).with_suffix("") for path in (docs.parent / _PACKAGE).rglob("*.py"))
    modules = {".".join(path.parts).removesuffix(".__init__") for path in paths}
    return sorted(modules - named)


def on_page_content(html: str, page: Page, **_: Any) -> str:
    """Sets the formulas, and loads what formulas and diagrams need on the pages that have some."""
    try:
        rendered = render_formulas(html, page.file.src_uri)
    except InputError as error:
        raise PluginError(str(error)) from None
    head = ""
    if rendered != html:
        head += f'<link rel="stylesheet" href="{get_relative_url("bundled/katex.min.css", page.url)}">\n'
    if 'class="mermaid"' in rendered:
        head += f'<script src="{get_relative_url("bundled/mermaid.min.js", page.url)}"></script>\n'
    return head + rendered
