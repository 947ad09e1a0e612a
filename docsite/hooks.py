"""Steps of the build of the site, called by mkdocs (see `hooks` in mkdocs.yml)."""

from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

from docsite.bundles import KATEX, MERMAID, fetch
from docsite.formulas import render_formulas
from docsite.generated import directives
from spn4cir.errors import InputError


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
    """Shows whole modules where the committed pages have a summary."""
    return directives(markdown, Path(config.docs_dir))


def on_page_content(html: str, page: Page, **_: Any) -> str:
    """Renders the formulas, and adds the style sheets and scripts to pages with formulas or diagrams."""
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
