"""The report of a made-up run: its counts, its bytes, and the page in a browser."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spn4cir.comparison.paper import PaperComparison, PaperFigure
from spn4cir.comparison.query_pairs import Answer, QueryPair
from spn4cir.config.load import load_params
from spn4cir.config.params import Report
from spn4cir.config.positives import Filter
from spn4cir.errors import InputError
from spn4cir.positives.filter_table import judge_texts, read_filter, write_filter
from spn4cir.positives.listing import write_listing
from spn4cir.report import page
from spn4cir.report.breakdown import FAILURE, HIT, NEAR_MISS, by_category, by_group, by_length, examples, rank_bins
from spn4cir.report.content import score_label
from spn4cir.report.main_settings import base_network, facts, training_rows
from spn4cir.report.page import render, write_page
from spn4cir.report.run import RunResults
from spn4cir.types import Triplet
from stages.common import Job
from stages.report import main
from stages.run_results import beside_paper, collect, generated
from tests.helpers.layouts import write
from tests.helpers.reports import DATE, HOSTILE, IMAGES, write_run, write_weights

SECTIONS = {
    "recall": "Recall",
    "shortcuts": "Shortcuts",
    "curves": "Loss and score",
    "ranks": "Ranks of the targets",
    "breakdown": "Recall by text and category",
    "hit": "Hits",
    "near-miss": "Near misses",
    "failure": "Failures",
    "queries": "Queries",
    "triplets": "Generated triplets",
    "windows": "Similarity ranks",
    "duplicates": "Duplicates",
    "run": "Settings and inputs",
}
KS = (10, 50)
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The made-up run; its tests are in its folder."""
    folder = tmp_path_factory.mktemp("project")
    write_run(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def job(project: Path) -> Job:
    return Job(load_params(), "demo_fiq", "clip")


@pytest.fixture(scope="module")
def run(job: Job) -> RunResults:
    return collect(job)


@pytest.fixture(scope="module")
def settings(job: Job) -> Report:
    return job.params.report


@pytest.fixture(scope="module")
def written(project: Path, job: Job) -> Path:
    main(job)
    return project / "data/report/demo_fiq/clip.html"


def asked(*ranks: int, text: str = "is red", split: str = "dress") -> list[QueryPair]:
    """Queries with these ranks after stage 2, and ranks that are larger by 5 after stage 1."""
    return [
        QueryPair(split, number, "a", text, "b", answer(rank + 5), answer(rank), (), ())
        for number, rank in enumerate(ranks)
    ]


def answer(rank: int) -> Answer:
    return Answer(rank, ("c",), frozenset())


def test_outcomes_by_rank() -> None:
    """Within the smallest k a hit, within the largest a near miss."""
    queries = asked(1, 10, 11, 50, 51, 300, 12)
    assert [query.b.rank for query in examples(queries, KS, HIT, 5)] == [1, 10]
    assert [query.b.rank for query in examples(queries, KS, NEAR_MISS, 2)] == [11, 12]
    assert [query.b.rank for query in examples(queries, KS, FAILURE, 1)] == [300]


def test_every_rank_falls_into_one_bin() -> None:
    labels, before, after = rank_bins(asked(1, 1, 2, 5, 6, 95))
    assert labels == ["1", "2-5", "6-10", "11-20", "21-50", "51-100"]
    assert (before, after) == ([0, 0, 4, 1, 0, 1], [2, 2, 1, 0, 0, 1])


def test_recall_by_length_and_category() -> None:
    """Four words and five are of two groups; a group without a query is left out, and no word is a group of its own."""
    queries = [
        *asked(1, 99, text=" "),
        *asked(8, 60, text="a b c d"),
        *asked(3, text="a b c d e", split="shirt"),
        *asked(60, text="a " * 17, split="shirt"),
    ]
    length, category = by_length(queries, KS), by_category(queries, KS)
    assert [(share.label, share.queries) for share in length] == [("0", 2), ("1-4", 2), ("5-8", 1), ("17 or more", 1)]
    found = [tuple(gain.stage2 for gain in share.gains) for share in length]
    assert found == [(50.0, 50.0), (50.0, 50.0), (100.0, 100.0), (0.0, 0.0)]
    shown = [("dress", (25.0, 50.0)), ("shirt", (50.0, 50.0))]
    assert [(share.label, tuple(gain.stage1 for gain in share.gains)) for share in category] == shown


def test_recall_by_what_the_text_speaks_of() -> None:
    """A query counts in each of its groups; the interval of a gain that all queries share has no width."""
    queries = [*asked(*[8] * 60, text="is red with stripes"), *asked(3, text="is blue"), *asked(60, text="na")]
    colour, pattern, none = by_group(queries, KS)
    assert [(s.label, s.queries, s.few) for s in (colour, pattern, none)] == [
        ("colour", 61, False),
        ("pattern", 60, False),
        ("none of these", 1, True),
    ]
    assert pattern.gains[0] == (0.0, 100.0, 100.0, 100.0)
    assert (colour.gains[0].low, colour.gains[0].high) != (100.0, 100.0)
    assert colour.gains[0].difference == pytest.approx(100 * 60 / 61)


def test_labels_of_scores() -> None:
    assert score_label("dress_recall_at10") == "dress R@10"
    assert score_label("recall_subset_at1") == "R_subset@1"
    assert score_label("mean_recall5_subset1") == "mean of R@5 and R_subset@1"


def test_the_same_run_gives_the_same_bytes(run: RunResults, settings: Report, written: Path) -> None:
    assert render(run, settings) == written.read_text(encoding="utf-8")


def test_each_image_is_in_the_page_once(written: Path) -> None:
    """It may be shown several times; equal images are one."""
    text = written.read_text(encoding="utf-8")
    embedded = re.findall(r"\.(t\d+)\{background-image:url\((data:image/webp[^)]*)\)", text)
    shown = re.findall(r'class="thumb (t\d+)"', text)
    assert len(embedded) == len(set(embedded)) == len({data for _, data in embedded})
    assert set(shown) == {name for name, _ in embedded}
    assert len(shown) > 2 * len(embedded)


def test_a_page_that_is_too_large_is_refused(
    run: RunResults, settings: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "render", lambda run, settings: "x" * 10_400_000)
    with pytest.raises(InputError, match=r"r\.html: the page has 10\.4 MB, more than 10; lower report\.thumbnail"):
        write_page(run, settings, tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_a_run_of_another_kind(run: RunResults, settings: Report, written: Path, tmp_path: Path) -> None:
    """Weights that were not trained here, no shortcuts, no triplets, no window; and the paper's figures beside it."""
    write_weights(tmp_path, "stage1.pt", trained=False)
    figures = {"average_recall": PaperFigure(50.11, 51.22, 61.5, 70.0)}
    other = replace(
        run,
        curves={"stage 1": tmp_path / "figures"},
        metrics={key: value for key, value in run.metrics.items() if key != "shortcuts"},
        paper=PaperComparison("the paper's table 2", figures, {"data": ("theirs", "ours")}, ("data",), ("a note",)),
        triplets=(),
        window=None,
    )
    text, usual = render(other, settings), written.read_text(encoding="utf-8")
    expected = (
        "Neither stage was trained here",
        "<code>shortcuts.demo_fiq.enabled</code>",
        *("50.11", "51.22", "+18.78", "Not comparable", "data: the paper&#39;s theirs; ours ours", "a note"),
        "None were generated",
        "this family has no window",
    )
    assert [part for part in expected if part not in text] == []
    assert [part for part in expected if part in usual] == []


def test_what_the_filter_removed_is_shown(run: RunResults, settings: Report, written: Path, tmp_path: Path) -> None:
    """Of 20 triplets one text each: ten are wrong, nine are shortcuts and one is kept. Eight of a kind are shown."""
    conditions = Filter(target_within=50, text_within=5)
    ranks = [*((60, 70 + number) for number in range(10)), *((3, 5) for _ in range(9)), (50, 6)]
    write_filter(tmp_path / "filter", conditions, judge_texts(run.triplets, ranks, conditions))
    text = render(replace(run, filtered=read_filter(tmp_path / "filter")), settings)
    found = [
        "The filter keeps 1 of 20 triplets and 1 of 20 texts for stage 2.",
        "does not find its target among the first 50 images; 10 triplets are removed as wrong.",
        "the text alone finds the target among the first 5 images; 9 triplets are removed as shortcuts.",
        "Removed triplets: wrong; 8 of 10, at even distances",
        "Removed triplets: shortcut; 8 of 9, at even distances",
        '<td class="text">text 0 of dress-train-1</td><td class="number">60</td><td class="number">70</td>',
    ]
    assert [part for part in found if part not in text] == []
    assert 'id="filter"' not in written.read_text(encoding="utf-8"), "it is off"
    for reason in ("wrong", "shortcut"):
        table = text[text.index(f'id="removed-{reason}"') :].split("</table>")[0]
        assert (table.count("<tbody>"), table.count("<img")) == (8, 16)


def test_the_model_that_wrote_the_texts_is_named(
    run: RunResults, settings: Report, written: Path, job: Job, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one, the paragraph has one sentence."""
    assert run.text_origin == {}
    assert ", at even distances.</p>" in written.read_text(encoding="utf-8")
    origin = {"source": "make", "written_by": "<writer-7b>", "texts": 20, "by_template": 3}
    path = project / "data/triplets/demo_fiq/clip/source.json"
    path.write_text(json.dumps(origin))
    found = collect(job)
    path.unlink()
    text = render(found, settings)
    assert "The texts are written by &lt;writer-7b&gt;; 3 of 20 are those of templates" in text


def test_inputs_are_hashed_by_content(job: Job, run: RunResults, project: Path) -> None:
    """All hashes are sha256; another annotation changes only the hash of the annotation files."""
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in run.inputs.values())
    extra = project / "data/raw/demo_fiq/captions/extra.json"
    extra.write_text("[]")
    changed = collect(job).inputs
    extra.unlink()
    assert [name for name in changed if changed[name] != run.inputs[name]] == ["annotation files"]


def test_the_triplets_of_a_recipe_are_those_of_its_listing(job: Job) -> None:
    """They may name images of a pool, which the listing places."""
    before = job.listing_file.read_bytes()
    paths = {name: Path("data/raw/demo_fiq/images") / f"{name}.png" for name in ("shirt-val-0", "shirt-val-1")}
    listed = Triplet("shirt-val-0", ("a text",), "shirt-val-1", generated=True)
    write_listing([listed], paths.__getitem__, job.listing_file)
    triplets, place = generated(job)
    job.listing_file.write_bytes(before)
    assert triplets == (listed,)
    assert {name: place(name) for name in paths} == paths


def test_the_papers_figures_are_those_of_the_family(tmp_path: Path, run: RunResults) -> None:
    """The paper has none for a recipe."""
    protocol = run.metrics["protocol"]
    scores = {f"average_recall{end}": 50.0 for end in ("_at10", "_at50", "")}
    for family, found in (("clip", True), ("zs", False)):
        path = write(
            tmp_path / "metrics/fiq" / f"{family}.json",
            {**run.metrics, **scores, "protocol": {**protocol, "family": family}},
        )
        assert (beside_paper(path) is not None) == found


def test_the_head_names_what_was_run(run: RunResults, written: Path) -> None:
    """The date is that of the scores, which the file of validate contains."""
    assert facts(run) == {
        "Model family": "clip",
        "Base network": "data/models/demo_fiq/stage1/clip",
        "Data set": "demo_fiq (layout fashioniq), 36 validation queries",
        "Scored on": DATE,
        "Seed": "42",
    }
    assert ("Temperature", "0.02", "0.02") in training_rows(run.settings)
    published = {**run.settings, "checkpoint": {"source": "hub", "positives": "annotated"}}
    assert ("Epochs", "", "4") in training_rows(published)
    assert f"<dt>Scored on</dt><dd>{DATE}</dd>" in written.read_text(encoding="utf-8")
    assert base_network({"open_clip": "ViT-L-14", "tag": "openai"}, "fiq", "zs") == "open_clip:ViT-L-14/openai"
    assert base_network({"hub": "some/model", "revision": None}, "fiq", "blip") == "some/model"


def test_gains_have_intervals(run: RunResults, written: Path) -> None:
    """With 12 queries in a category, no verdict is given on its gains."""
    gain = run.stages.comparison.scores["dress_recall_at10"]
    assert gain.low < gain.difference < gain.high
    text = written.read_text(encoding="utf-8")
    assert f'<td class="number">{gain.low:+.2f} to {gain.high:+.2f}</td>' in text
    assert not re.search(r"<td>(better|worse)</td>", text)


def test_baselines_are_beside_the_stages(job: Job, project: Path, settings: Report, written: Path) -> None:
    """By network and rule; without networks the table has no such columns."""
    scores = {rule: {"dress_recall_at10": value} for rule, value in (("text", 12.25), ("image", 7.5), ("slerp", 1.125))}
    path = write(project / "metrics/demo_fiq/baselines.json", {"open_clip:a/b": scores})
    text = render(collect(job), settings)
    path.write_text("{}")
    assert render(collect(job), settings) == written.read_text(encoding="utf-8")
    assert '<th scope="colgroup" colspan="2">open_clip:a/b</th>' in text
    assert '<td class="number">12.25</td><td class="number">7.50</td></tr>' in text
    assert "1.12" not in text
    assert "open_clip:a/b" not in written.read_text(encoding="utf-8")


def test_baselines_of_another_protocol_are_named(run: RunResults, settings: Report) -> None:
    """The published settings of tgcir keep the reference in the ranking, those of the baselines remove it."""
    own = run.metrics["protocol"] | {"reference": "kept in the ranking", "text": "letters as written"}
    other = own | {"reference": "removed from the ranking", "family": "clip"}
    scores = {"text": {"dress_recall_at10": 12.25}}
    same, differs = ({"open_clip:a/b": scores | {"protocol": protocol}} for protocol in (own, other))
    metrics = {**run.metrics, "protocol": own}
    sentence = "scored by another protocol (reference: removed from the ranking, not kept in the ranking)."
    assert sentence in render(replace(run, metrics=metrics, baselines=differs), settings)
    assert "another protocol" not in render(replace(run, metrics=metrics, baselines=same), settings)


def test_too_few_queries_are_named_above_the_scores(run: RunResults, settings: Report, written: Path) -> None:
    """Of all queries, or of a category."""
    text = written.read_text(encoding="utf-8")
    assert 0 < text.index('<p class="warning">36 queries are too few for a conclusion') < text.index("Table of recalls")
    assert text.count("fewer than 50)") == 1

    def page(**values: object) -> str:
        comparison = run.stages.comparison._replace(queries=60, **values)
        return render(replace(run, stages=run.stages._replace(comparison=comparison)), settings)

    assert '<p class="warning">Scores of fewer than 50 queries get no verdict' in page()
    scores = {key: score._replace(few=False) for key, score in run.stages.comparison.scores.items()}
    assert 'class="warning"' not in page(scores=scores)


def test_images_go_to_the_queries_that_change_most(run: RunResults, settings: Report, written: Path) -> None:
    """Rows without room for images show names; the page says how many rows have images."""
    whole = written.read_text(encoding="utf-8")
    assert f"{3 * IMAGES} of {3 * IMAGES} queries; {3 * IMAGES} of these rows have images." in whole
    none = render(run, settings, largest=0)
    assert "; 0 of these rows have images" in none
    largest = len(none.encode()) + 80_000
    few = render(run, settings, largest=largest)
    assert len(few.encode()) <= largest
    (shown,) = re.findall(r"(\d+) of these rows have images, because the page would be too large", few)
    assert 0 < int(shown) < 3 * IMAGES
    rows = re.findall(r"<tbody data-split=.*?</tbody>", few, re.DOTALL)
    pictured = [row for row in rows if 'class="thumb t' in row]
    assert (len(rows), len(pictured)) == (3 * IMAGES, int(shown))
    changed = [row for row in rows if 'data-change=""' not in row]
    assert all(row in pictured for row in changed) or all(row in changed for row in pictured)


def test_every_section_is_there(open_page: Open, written: Path) -> None:
    """With headings and landmarks; each image has a text and is drawn; what a query says is text, not markup."""
    shown = open_page(written.as_uri())
    found = shown.eval_on_selector_all(
        "main > section", "all => all.map(s => [s.id, s.querySelector('h2').textContent])"
    )
    assert dict(found) == SECTIONS
    assert [shown.locator(name).count() for name in ("h1", "header", "nav", "main")] == [1, 1, 1, 1]
    links = shown.eval_on_selector_all("nav a", "all => all.map(a => a.getAttribute('href').slice(1))")
    assert sorted(links) == sorted(SECTIONS)
    assert shown.eval_on_selector_all("img", "all => all.every(i => i.alt.length > 3)")
    drawn = "all => all.every(i => getComputedStyle(i).backgroundImage.startsWith('url(\"data:image/webp'))"
    assert shown.eval_on_selector_all("img", drawn)
    assert shown.eval_on_selector_all("table", "all => all.every(t => t.caption && t.querySelector('th[scope=col]'))")
    assert shown.locator("#hit h3 q").first.text_content() == HOSTILE
    ids = shown.eval_on_selector_all("[id]", "all => all.map(element => element.id)")
    assert len(ids) == len(set(ids))
    assert shown.locator("#windows").get_by_text("start of the window: ranks 10 to 14").count() == 2
    assert shown.locator("#duplicates figcaption").all_text_contents() == ["dress-train-0", "dress-train-7"]
    assert shown.locator("#curves svg[role=img]").count() == 6


def test_names_of_images_are_text(run: RunResults, settings: Report) -> None:
    """Those of queries and of what was found; the texts are above."""
    named = [query._replace(reference=HOSTILE, target=HOSTILE) for query in run.queries]
    queries = tuple(query._replace(b=query.b._replace(top=(HOSTILE,) * len(query.b.top))) for query in named)
    text = render(replace(run, queries=queries), settings)
    assert "<img src=x" not in text
    assert "<b>bold" not in text
    assert text.count("&lt;b&gt;bold") > len(queries)


def test_hard_negatives_are_a_table(open_page: Open, written: Path) -> None:
    """A row a kind, and what both explain together."""
    shown = open_page(written.as_uri())
    rows = shown.locator("#hard-negatives tbody tr")
    assert [row.split() for row in rows.all_inner_texts()] == [
        ["5", "most", "like", "the", "reference", "61.50", "30.25", "1.75", "12.50"],
        ["6", "best", "by", "the", "text", "alone", "71.50", "31.00", "2.50", "25.00"],
        ["either", "-", "-", "-", "37.50"],
    ]
    assert "Of 24 queries the target is not among the first 10" in shown.locator("#shortcuts").inner_text()


def column(shown: Any, table: str, number: int) -> list[str]:
    """The texts of a column's rows that are shown."""
    cells: list[str] = shown.eval_on_selector_all(
        f"#{table} tbody:not([hidden]) > tr:first-child > :nth-child({number})",
        "all => all.map(cell => cell.textContent)",
    )
    return cells


def test_queries_sort_and_filter(open_page: Open, written: Path) -> None:
    """They do so by mouse and by keyboard; numbers are sorted as numbers."""
    shown = open_page(written.as_uri())
    head = shown.locator("#queries-table thead th").nth(5)
    head.get_by_role("button").click()
    ranks = [int(text) for text in column(shown, "queries-table", 6)]
    assert ranks == sorted(ranks)
    assert (len(ranks), head.get_attribute("aria-sort")) == (3 * IMAGES, "ascending")
    head.get_by_role("button").focus()
    shown.keyboard.press("Enter")
    assert [int(text) for text in column(shown, "queries-table", 6)] == sorted(ranks, reverse=True)
    shown.locator("#queries").get_by_label("Category").select_option("shirt")
    shown.locator("#queries").get_by_label("Outcome").select_option("failure")
    assert column(shown, "queries-table", 6) == ["120", "80", "51"]
    assert {name.split()[0] for name in column(shown, "queries-table", 1)} == {"shirt"}
    assert shown.locator("#queries output").text_content() == f"3 of {3 * IMAGES} rows"
    shown.locator("#queries").get_by_label("Text or name").fill("IS11")
    assert column(shown, "queries-table", 6) == ["120"]
    shown.locator("#queries").get_by_label("Text or name").fill("nothing of that kind")
    assert column(shown, "queries-table", 6) == []


def test_the_filter_applies_to_the_fields_that_the_browser_restores(open_page: Open, written: Path) -> None:
    """It restores them when a person comes back from another page."""
    shown = open_page(written.as_uri())
    shown.locator("#queries").get_by_label("Category").select_option("shirt")
    rows = column(shown, "queries-table", 1)
    shown.goto("about:blank")
    shown.go_back()
    assert shown.locator("#queries").get_by_label("Category").input_value() == "shirt"
    assert column(shown, "queries-table", 1) == rows
    assert {name.split()[0] for name in rows} == {"shirt"}


def test_a_query_opens_to_the_best_candidates_of_both_stages(open_page: Open, written: Path) -> None:
    """It does so by the keyboard too; the target is framed, on a phone the images fit."""
    shown = open_page(written.as_uri(), viewport={"width": 390, "height": 800})
    row = shown.locator("#queries-table tbody").nth(1)
    assert row.locator("tr").first.locator("img").count() == 2
    assert not row.locator(".detail").is_visible()
    row.get_by_role("button").focus()
    shown.keyboard.press("Enter")
    assert row.get_by_role("button").get_attribute("aria-expanded") == "true"
    found = {name: row.get_by_label(f"Best candidates of {name}").locator("img") for name in ("stage 1", "stage 2")}
    assert [images.count() for images in found.values()] == [5, 5]
    assert row.get_by_label("Best candidates of stage 2").locator(".framed").count() == 1
    assert found["stage 2"].last.is_visible()
    box = found["stage 2"].last.bounding_box()
    assert box["x"] + box["width"] <= 390
    row.get_by_role("button").click()
    assert not row.locator(".detail").is_visible()
    shown.locator("#queries").get_by_label("Change").select_option("won")
    assert {text.strip()[:3] for text in column(shown, "queries-table", 9)} == {"won"}


def test_triplets_sort_and_filter(open_page: Open, written: Path) -> None:
    """Captions and names count, and all of it is there: both captions, both images, the text."""
    shown = open_page(written.as_uri())
    assert shown.locator("#triplets-table tbody tr").count() == 20
    first = shown.locator("#triplets-table tbody tr").first
    assert first.locator("img").count() == 2
    assert first.locator("figcaption").all_text_contents() == ["caption of dress-train-0", "caption of dress-train-1"]
    shown.locator("#triplets-table").get_by_role("button", name="Text").click()
    texts = column(shown, "triplets-table", 3)
    assert texts == sorted(texts)
    shown.locator("#triplets").get_by_label("Text, caption or name").fill("of dress-train-11")
    assert len(column(shown, "triplets-table", 3)) == 2


@pytest.mark.parametrize("width", [320, 375])
def test_a_phone_scrolls_down_only(open_page: Open, written: Path, width: int) -> None:
    shown = open_page(written.as_uri(), viewport={"width": width, "height": 800})
    shown.eval_on_selector_all("details", "all => all.forEach(d => { d.open = true })")
    assert shown.evaluate("document.documentElement.scrollWidth") == width


def test_dark_and_light(open_page: Open, written: Path) -> None:
    """Page and charts."""
    colours = []
    for scheme in ("light", "dark"):
        shown = open_page(written.as_uri(), color_scheme=scheme)
        colours.append(
            [
                shown.evaluate("getComputedStyle(document.body).backgroundColor"),
                shown.locator("#ranks svg text").first.evaluate("text => getComputedStyle(text).fill"),
            ]
        )
    assert colours == [["rgb(255, 255, 255)", "rgb(27, 29, 33)"], ["rgb(20, 22, 26)", "rgb(232, 234, 237)"]]
