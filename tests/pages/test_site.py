"""The documentation site: it builds without a warning, and its pages work in a browser that reaches no other host."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from docsite import bundles
from docsite.formulas import render_formulas
from docsite.generated import other_modules
from spn4cir.errors import InputError
from tests.helpers.site import ROOT, build_site, served

PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    return build_site(tmp_path_factory.mktemp("site") / "site")


@pytest.fixture(scope="module")
def address(site) -> Iterator[str]:
    with served(site) as place:
        yield place


def pages(site: Path) -> list[str]:
    return sorted(path.relative_to(site).parent.as_posix() + "/" for path in site.rglob("index.html"))


def test_every_page_loads_from_the_site_alone(site, address, open_page):
    """No other host, no error in the console (see `open_page`), one first heading, nothing wider than a phone.

    Without the index of the search, which takes each page longer to read than everything else.
    """
    page = open_page(address, viewport=PHONE, color_scheme="dark")
    empty = json.loads((site / "search" / "search_index.json").read_text()) | {"docs": []}
    page.route("**/search_index.json", lambda route: route.fulfill(json=empty))
    for name in pages(site):
        page.goto(address + name)
        assert page.locator("h1").count() == 1, name
        if page.locator(".mermaid").count():
            page.wait_for_function("document.querySelectorAll('pre.mermaid').length === 0")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], name


def test_search_finds_a_setting(address, open_page):
    page = open_page(address)
    page.locator(".md-search-result__meta", has_text="Type to start searching").wait_for(state="attached")
    page.keyboard.press("/")
    page.keyboard.type("bank_samples")
    page.locator(".md-search-result__item", has_text="bank_samples").first.wait_for()


def test_formulas_are_set_when_the_site_is_built(site):
    text = (site / "method" / "index.html").read_text()
    assert text.count('class="katex"') > 3
    assert "bundled/katex.min.css" in text
    assert "\\frac" not in re.sub(r"<annotation.*?</annotation>", "", text)


def test_every_module_is_on_one_page_of_the_reference(site):
    """Modules that no page names are on the last one."""
    named = [
        name
        for page in (ROOT / "docs/reference").glob("*.md")
        for name in re.findall(r"^<!-- module (\S+) -->", page.read_text(), re.M)
    ]
    assert len(named) == len(set(named))
    text = "".join(page.read_text() for page in (site / "reference").rglob("index.html"))
    for name in [*named, *other_modules(ROOT / "docs")]:
        assert f'id="{name}"' in text, name


def test_a_formula_that_does_not_parse_is_named(site):
    with pytest.raises(InputError, match=r"docs/x.md: a formula does not parse \(.*\\frc"):
        render_formulas('<span class="arithmatex">\\(\\frc{1}{2}\\)</span>', "x.md")


def test_another_archive_than_the_pinned_one_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(bundles, "CACHE", tmp_path)
    monkeypatch.setattr(
        bundles.subprocess, "run", lambda *_, cwd, **__: (cwd / "katex-0.16.47.tgz").write_bytes(b"other")
    )
    with pytest.raises(InputError, match=r"sha512 is .*, expected Eeo8"):
        bundles.fetch(bundles.KATEX)
    assert list(tmp_path.iterdir()) == []
