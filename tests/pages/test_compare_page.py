"""`spn4cir compare --html`: the queries of two runs, the size of the page, its images, and the page in a browser."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from spn4cir.cli import app
from spn4cir.comparison.compare import ComparedRuns, compare_runs
from spn4cir.comparison.query_pairs import pair_queries
from spn4cir.comparison.runs import Run, read_runs
from spn4cir.comparison.settings import differing, run_settings
from spn4cir.config.load import find_params
from spn4cir.errors import InputError
from spn4cir.report.compare_page import ComparePage, render_compare_page
from spn4cir.report.image_lookup import ImageLookup, images_in_folder
from spn4cir.report.thumbnails import Thumbnails
from tests.helpers.layouts import draw, write_fashioniq
from tests.helpers.reports import HOSTILE, REPOSITORY
from tests.helpers.runs import write_run

# Dress: won, lost, moved alone, the same; shirt: out of the top five in both; toptee: moved within the top five.
FIQ_A = {"dress": [12, 1, 30, 3], "shirt": [300, 60], "toptee": [4, 1]}
FIQ_B = {"dress": [2, 55, 25, 3], "shirt": [100, 60], "toptee": [1, 1]}
NAMES = ("before", "after")
IMAGES = 12


def read_run(path: Path) -> Run:
    (run,) = read_runs(str(path)).values()
    return run


def change_column(run: Path, name: str, values: list[Any] | None) -> None:
    """Replaces a column of a run's table of queries, or removes it."""
    file = run.with_suffix(".parquet")
    table = pq.read_table(file)
    place = table.column_names.index(name)
    table = table.remove_column(place) if values is None else table.set_column(place, name, pa.array(values))
    pq.write_table(table, file)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the images of demo_fiq; a second one beside it with another temperature."""
    root, other = tmp_path / "project", tmp_path / "other"
    text = (REPOSITORY / "params.yaml").read_text(encoding="utf-8")
    for folder, outcome, tau in ((root, FIQ_A, "0.02"), (other, FIQ_B, "0.07")):
        write_run(folder / "metrics/demo_fiq/clip.json", "fashioniq", outcome, tmp_path)
        changed = re.sub(r"(\ntrain:\n  demo_fiq:\n    clip: \{tau: )[\d.]+", rf"\g<1>{tau}", text)
        (folder / "params.yaml").write_text(changed, encoding="utf-8")
    write_fashioniq(root / "data/raw/demo_fiq", IMAGES)
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def runs(project: Path) -> tuple[Path, Path]:
    """The metrics files of the two runs."""
    return project / "metrics/demo_fiq/clip.json", project.parent / "other/metrics/demo_fiq/clip.json"


def compared(runs: tuple[Path, Path]) -> ComparedRuns:
    a, b = (read_run(path) for path in runs)
    return ComparedRuns(a.place, a, b, compare_runs(a, b))


def page(
    runs: tuple[Path, Path], folder: Path | None = None, project: Path | None = None, largest: int = 10_000_000
) -> ComparePage:
    source = ImageLookup(find_params(Path.cwd()), project, folder)
    return render_compare_page(NAMES, [compared(runs)], source, largest)


def articles(text: str) -> list[str]:
    return re.findall(r"<article.*?</article>", text, re.DOTALL)


def title(article: str) -> str:
    found = re.search(r"<h3>(\w+ \d+):", article)
    assert found is not None
    return found[1]


def call(*arguments: object, status: int = 0) -> Any:
    result = CliRunner().invoke(app, ["compare", *map(str, arguments)])
    assert result.exit_code == status, result.output
    return result


def test_queries_are_paired_with_what_each_run_wins(runs: tuple[Path, Path]) -> None:
    pairs = {(pair.split, pair.query): pair for pair in pair_queries(*map(read_run, runs))}
    assert pairs["dress", 0].won == ("R@10",)
    assert pairs["dress", 1].lost == ("R@10", "R@50")
    assert (pairs["dress", 2].won, pairs["dress", 2].lost, pairs["dress", 2].places) == ((), (), 5)
    assert pairs["dress", 0].a.targets == frozenset()
    assert pairs["dress", 0].b.targets == {1}
    assert pairs["dress", 0].b.top[1] == pairs["dress", 0].target == "dress-val-1"
    assert len(pairs["dress", 0].a.top) == 5


def test_all_targets_of_a_query_are_framed(runs: tuple[Path, Path]) -> None:
    """A table with the ranks of several targets does not name them."""
    for path in runs:
        table = pq.read_table(path.with_suffix(".parquet"))
        column = pa.array([[rank, rank + 2, 40] for rank in table["rank"].to_pylist()])
        pq.write_table(table.append_column("target_ranks", column), path.with_suffix(".parquet"))
    pairs = {(pair.split, pair.query): pair for pair in pair_queries(*map(read_run, runs))}
    assert pairs["dress", 1].a.targets == {0, 2}
    assert pairs["dress", 3].a.targets == {2, 4}


def test_a_table_without_texts_is_refused(runs: tuple[Path, Path]) -> None:
    change_column(runs[1], "text", None)
    with pytest.raises(InputError, match=r"clip\.json: its table of queries has no column 'text'; run validate again"):
        page(runs)


def test_settings_that_differ(runs: tuple[Path, Path], tmp_path: Path) -> None:
    """They come from the params.yaml of each run's project; a file on its own has none."""
    settings = [run_settings(read_run(path)) for path in runs]
    assert differing([each.values for each in settings]) == {"train.tau": ("0.02", "0.07")}
    assert settings[0].unknown == ""
    alone = run_settings(read_run(write_run(tmp_path / "x/y/a.json", "fashioniq", FIQ_A, tmp_path)))
    assert alone.values == {}
    assert alone.unknown.endswith("y/a.json: has no params.yaml two folders above")
    assert differing([{"a": "1"}, {"b": "2"}]) == {"a": ("1", ""), "b": ("", "2")}


def test_settings_of_a_benchmark_are_those_of_its_weights_too(project: Path) -> None:
    params = project / "params.yaml"
    text = params.read_text(encoding="utf-8")
    params.write_text(
        text.replace("  benchmarks: []", "  benchmarks: [{name: demo_circo, weights: demo_fiq}]"), encoding="utf-8"
    )
    write_run(project / "metrics/demo_circo/clip.json", "cirr", {"val": [(1, 1)]}, project)
    values = run_settings(read_run(project / "metrics/demo_circo/clip.json")).values
    assert values["benchmarks.layout"] == '"circo"'
    assert values["train.tau"] == "0.02"


def test_the_page_shows_settings_scores_and_queries(runs: tuple[Path, Path], project: Path) -> None:
    """Queries that are won or lost come first, then those that move the most; targets are framed."""
    found = page(runs, project=project)
    assert (found.shown, found.queries, found.notes) == (8, 8, ())
    assert '<th scope="row">train.<wbr>tau</th><td><code>0.02</code></td><td><code>0.07</code></td>' in found.text
    assert "<td>too few queries</td>" in found.text
    warning = '<p class="warning">8 queries are too few for a conclusion'
    assert 0 < found.text.index(warning) < found.text.index("Table of scores")
    assert found.text.count("fewer than 50") == 1
    shown = articles(found.text)
    assert [title(article) for article in shown[:4]] == ["dress 1", "dress 0", "shirt 0", "dress 2"]
    won = shown[1]
    assert 'data-won="R@10" data-lost="" data-places="10" data-a="12" data-b="2"' in won
    framed = re.findall(r'<figure class="framed"><img[^>]*alt="([^"]*)"', won)
    assert framed == ["target: dress-val-1", "result 2, the target: dress-val-1"]
    assert "Rank 12 in A, 2 in B: 10 places better." in won
    assert "Lost at R@10, R@50." in shown[0]


def test_each_image_is_in_the_page_once(runs: tuple[Path, Path], project: Path) -> None:
    text = page(runs, project=project).text
    embedded = re.findall(r"\.(t\d+)\{background-image:url\((data:image/webp[^)]*)\)", text)
    assert len(embedded) == len({data for _, data in embedded})
    assert set(re.findall(r'class="thumb (t\d+)"', text)) == {name for name, _ in embedded}


def test_a_page_that_would_be_too_large_shows_fewer_queries(runs: tuple[Path, Path], project: Path) -> None:
    """Those that change most; their images alone are in the page, and the page says so."""
    whole = page(runs, project=project)
    assert 'id="left-out"' not in whole.text
    largest = len(whole.text.encode()) - 1 + 10_000
    few = page(runs, project=project, largest=largest)
    assert 0 < few.shown < few.queries
    assert f"The page shows {few.shown} of 8 queries" in few.text
    assert [title(article) for article in articles(few.text)] == [
        title(article) for article in articles(whole.text)[: few.shown]
    ]
    assert len(few.text.encode()) <= largest
    assert page(runs, project=project, largest=20_000).shown == 0


def test_the_cost_of_thumbnails_is_what_they_add(tmp_path: Path) -> None:
    """Images that are in the page already cost nothing."""
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        draw(path, number)
    thumbnails = Thumbnails(64)
    thumbnails.add(paths[0])
    cost, before = thumbnails.cost(paths), len(thumbnails.css())
    for path in paths:
        thumbnails.add(path)
    assert len(thumbnails.css()) - before <= cost <= len(thumbnails.css()) - before + 20
    assert thumbnails.cost(paths) == 0


def test_names_are_shown_for_images_that_are_not_available(runs: tuple[Path, Path], project: Path) -> None:
    (project / "data/raw/demo_fiq").rename(project / "elsewhere")
    found = page(runs, project=project)
    assert found.shown == 8
    (note,) = found.notes
    assert note.startswith("The images are not available; their names are shown. demo_fiq/clip: ")
    assert "no such folder" in note
    assert '<span class="thumb absent">reference: dress-val-0</span>' in found.text
    assert "background-image" not in found.text
    (outside,) = page(runs).notes
    assert outside.endswith(
        "there is no params.yaml in reach, whose data sets contain the images; give --images FOLDER."
    )


def test_an_image_that_cannot_be_decoded_is_named(runs: tuple[Path, Path], project: Path) -> None:
    (project / "data/raw/demo_fiq/images/dress-val-3.png").write_bytes(b"no image")
    found = page(runs, folder=project / "data/raw")
    assert found.notes == ("1 images were not found or cannot be decoded; their names are shown. One is dress-val-3.",)
    assert "absent" in found.text


def test_images_of_a_folder_are_found_by_name(tmp_path: Path) -> None:
    """By path or file name, with or without ending; a file name that two images have finds neither."""
    for number, name in enumerate(("a/x.png", "b/x.jpg", "b/y.v2.png")):
        draw(tmp_path / name, number)
    find = images_in_folder(tmp_path)
    assert find("val", "a/x.png") == find("val", "a/x") == find("val", "x.png") == tmp_path / "a/x.png"
    assert find("val", "x") is None
    assert find("val", "y.v2") == tmp_path / "b/y.v2.png"
    assert find("val", "z") is None


def test_texts_and_names_are_escaped(runs: tuple[Path, Path]) -> None:
    for path in runs:
        change_column(path, "text", [HOSTILE] * 8)
        change_column(path, "reference", [HOSTILE] * 8)
    source = ImageLookup(find_params(Path.cwd()), None, None)
    text = render_compare_page((HOSTILE, "b"), [compared(runs)], source, 10_000_000).text
    assert "<img src=x" not in text
    assert "<b>bold" not in text
    assert text.count("&lt;b&gt;bold") > 16


def test_one_page_for_several_data_sets(runs: tuple[Path, Path], project: Path) -> None:
    first = compared(runs)
    second = first._replace(place=("other", "clip"), a=replace(first.a, place=("other", "clip")))
    found = render_compare_page(NAMES, [first, second], ImageLookup(find_params(project), project, None), 10_000_000)
    assert found.queries == 16
    assert "<h3>demo_fiq/clip dress 1:" in found.text
    assert "<option>other/clip shirt</option>" in found.text
    assert len(found.notes) == 1


def test_the_command_writes_the_page(runs: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out/page.html"
    said = call(*runs, "--html", out, "--json", tmp_path / "o.json").stdout
    assert re.search(r"page\.html: written, 0\.\d MB, 8 of 8 queries", said)
    assert len(articles(out.read_text(encoding="utf-8"))) == 8
    assert "dress_recall_at10" in json.loads((tmp_path / "o.json").read_text())
    warned = call(*runs, "--html", out, "--images", runs[0].parent, status=0).stderr
    assert "warning: The images are not available" in warned


def test_wrong_calls_are_one_line(runs: tuple[Path, Path], tmp_path: Path) -> None:
    a = runs[0]
    assert "--html takes two runs, got 3" in call(a, a, a, "--html", "o.html", status=1).stderr
    assert "--html takes two runs, got 1" in call(a, "--to", "paper", "--html", "o.html", status=1).stderr
    assert "--images is for the page of --html" in call(a, a, "--images", tmp_path, status=1).stderr
    assert "is a folder; give the name of a file" in call(a, a, "--html", tmp_path, status=1).stderr


@pytest.fixture
def written(runs: tuple[Path, Path], tmp_path: Path) -> str:
    call(*runs, "--html", tmp_path / "page.html")
    return (tmp_path / "page.html").as_uri()


def shown_queries(shown: Any) -> list[str]:
    titles: list[str] = shown.eval_on_selector_all(
        ".query:not([hidden]) h3", "all => all.map(head => head.textContent.split(':')[0])"
    )
    return titles


def test_queries_are_filtered_sorted_and_reached_by_keys(open_page: Callable[..., Any], written: str) -> None:
    shown = open_page(written)
    form = shown.locator("#filter")
    assert form.locator("output").text_content() == "8 of 8 queries"
    form.get_by_label("Result").select_option("won")
    assert shown_queries(shown) == ["dress 0"]
    form.get_by_label("Result").select_option("lost")
    form.locator("[name=measure]").select_option("R@50")
    assert shown_queries(shown) == ["dress 1"]
    form.get_by_role("button", name="Show all").click()
    form.get_by_label("Moved by at least").fill("6")
    assert shown_queries(shown) == ["dress 1", "dress 0", "shirt 0"]
    form.get_by_label("Sort by").select_option("change")
    assert shown_queries(shown) == ["shirt 0", "dress 1", "dress 0"]
    form.get_by_label("Category").select_option("dress")
    form.get_by_label("Words in the text").fill("NUMBER 1")
    assert shown_queries(shown) == ["dress 1"]
    form.get_by_role("button", name="Show all").click()
    form.get_by_label("Sort by").select_option("gain")
    shown.locator("h1").click()
    shown.keyboard.press("j")
    shown.keyboard.press("j")
    shown.keyboard.press("k")
    assert shown.evaluate("document.activeElement.querySelector('h3').textContent").startswith("shirt 0")
    shown.keyboard.press("/")
    assert shown.evaluate("document.activeElement.name") == "words"


def test_keys_and_verdicts_do_not_break_within_a_word(open_page: Callable[..., Any], written: str) -> None:
    """On a phone, `train.tau` breaks nowhere or after its dot, and a verdict nowhere."""
    shown = open_page(written, viewport={"width": 390, "height": 800})
    lines = """cell => {
        const range = document.createRange();
        range.selectNodeContents(cell);
        return new Set([...range.getClientRects()].map(box => Math.round(box.top))).size;
    }"""
    assert set(shown.eval_on_selector_all("#scores td:last-child", f"all => all.map({lines})")) == {1}
    assert shown.locator("#settings tbody th").first.evaluate(lines) <= 2


def test_the_filter_applies_to_the_fields_that_the_browser_restores(
    open_page: Callable[..., Any], written: str
) -> None:
    """It restores them when a person comes back from another page."""
    shown = open_page(written)
    shown.locator("#filter").get_by_label("Result").select_option("won")
    shown.goto("about:blank")
    shown.go_back()
    assert shown.locator("#filter").get_by_label("Result").input_value() == "won"
    assert shown_queries(shown) == ["dress 0"]


def test_the_page_on_a_phone_and_in_the_dark(open_page: Callable[..., Any], written: str) -> None:
    """It scrolls down only; images are drawn, targets are framed in the colour of the scheme."""
    borders = []
    for scheme in ("light", "dark"):
        shown = open_page(written, color_scheme=scheme, viewport={"width": 390, "height": 800})
        assert shown.evaluate("document.documentElement.scrollWidth") == 390
        drawn = "all => all.every(i => getComputedStyle(i).backgroundImage.startsWith('url(\"data:image/webp'))"
        assert shown.eval_on_selector_all("img", drawn)
        assert shown.eval_on_selector_all("img", "all => all.length") == 8 * 12
        borders.append(shown.locator(".framed img").first.evaluate("image => getComputedStyle(image).borderColor"))
    assert borders == ["rgb(10, 125, 51)", "rgb(91, 210, 127)"]
