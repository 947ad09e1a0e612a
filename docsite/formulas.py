"""Formulas as HTML: KaTeX runs during the build, so that a page needs only its style sheet and fonts."""

import html
import json
import re
import subprocess
from pathlib import Path

from docsite.bundles import KATEX, fetch
from spn4cir.errors import InputError
from spn4cir.extras import install_command

_PROGRAM = Path(__file__).with_name("formulas.js")
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\(\(|\[)(.*?)\\[)\]]</\1>', re.DOTALL)


def render_formulas(content: str, page: str) -> str:
    """Returns a page's HTML with every marked formula rendered by KaTeX.

    Raises InputError that names the page if a formula does not parse.
    """
    found = list(_FORMULA.finditer(content))
    if not found:
        return content
    formulas = [(html.unescape(match[3]).strip(), match[2] == "[") for match in found]
    rendered = iter(_katex(formulas, page))
    # The search index contains words; the parts of a formula are not useful there.
    return _FORMULA.sub(lambda match: f"<{match[1]} data-search-exclude>{next(rendered)}</{match[1]}>", content)


def _katex(formulas: list[tuple[str, bool]], page: str) -> list[str]:
    library = (fetch(KATEX) / "katex.min.js").resolve()
    command = ["node", str(_PROGRAM), str(library)]
    try:
        done = subprocess.run(command, input=json.dumps(formulas), capture_output=True, text=True)
    except FileNotFoundError:
        raise InputError(f"node is needed to set formulas; run {install_command('docs')}") from None
    if done.returncode:
        raise InputError(f"docs/{page}: a formula does not parse ({done.stderr.strip()[-300:]}); correct it")
    result: list[str] = json.loads(done.stdout)
    return result
