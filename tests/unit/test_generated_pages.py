"""The generated text of the documentation is current, and the site replaces the modules that it shows whole."""

import re
import shutil
from pathlib import Path

import pytest

from docsite.generated import directives, generate, other_modules, write_pages
from spn4cir.errors import InputError

DOCS = Path(__file__).parents[2] / "docs"


def test_the_pages_are_up_to_date(tmp_path):
    for name in ("docs", "spn4cir"):
        shutil.copytree(DOCS.parent / name, tmp_path / name, ignore=shutil.ignore_patterns("*.png", "__pycache__"))
    assert write_pages(tmp_path / "docs") == [], "write them: python -m docsite.generated"


def test_every_module_is_summarised_once():
    pages = "".join(path.read_text() for path in (DOCS / "reference").glob("*.md"))
    linked = re.findall(r"^<a id=\S+></a>\*\*\[`(spn4cir\S*)`\]\(\.\./\.\./(\S+)\)", pages, re.MULTILINE)
    paths = [path for _, path in linked]
    assert sorted(paths) == sorted(
        str(path.relative_to(DOCS.parent)) for path in (DOCS.parent / "spn4cir").rglob("*.py")
    )
    assert set(other_modules(DOCS)) < {name for name, _ in linked}


def test_links_to_names_of_the_code_work_in_the_committed_pages():
    links = {
        link
        for path in DOCS.rglob("*.md")
        for link in re.findall(r"\]\(reference/(\w+\.md)#(spn4cir[\w.]*)\)", path.read_text())
    }
    assert len(links) > 5
    for page, name in links:
        assert f'<a id="{name}"></a>' in (DOCS / "reference" / page).read_text(), f"{page}#{name}"


def test_the_text_after_a_mark_is_replaced_and_the_rest_of_the_page_kept():
    page = "# A\n\n<!-- module spn4cir.errors -->\n\n<!-- help of inspect -->\noutdated line\n<!-- end -->\n\nafter\n"
    written = generate(page, DOCS)
    assert written == generate(written, DOCS)
    assert '- <a id="spn4cir.errors.InputError"></a>`InputError`: A bad input' in written
    assert "Usage: spn4cir inspect [OPTIONS]" in written
    assert "outdated line" not in written
    assert written.startswith("# A\n\n<!-- module")
    assert written.endswith("<!-- end -->\n\nafter\n")


def test_the_site_shows_modules_whole_and_helps_as_they_are_committed():
    page = generate("<!-- module spn4cir.errors -->\n<!-- help of inspect -->\n", DOCS)
    shown = directives(page, DOCS)
    assert shown.startswith("::: spn4cir.errors\n\n<!-- help of inspect -->\n")
    assert "Usage: spn4cir inspect" in shown
    assert directives("<!-- all other modules -->\n", DOCS).count(":::") == len(other_modules(DOCS))


@pytest.mark.parametrize(
    ("mark", "message"),
    [("help of insepct", "'insepct' is no command"), ("module spn4cir.nothing", "'spn4cir.nothing' is no module")],
)
def test_a_mark_of_something_else_is_refused(mark, message):
    with pytest.raises(InputError, match=message):
        generate(f"<!-- {mark} -->\n", DOCS)
