"""The demo's scores in README.md and docs/ equal those of the committed metrics files.

Both are read from git's index: `make demo` on another machine writes other metrics, which do not fail these tests.
"""

import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from demo.summary import table

ROOT = Path(__file__).parents[2]


@cache
def committed(path: str) -> str:
    """Returns a file's text in git's index; skips the test without a repository."""
    command = ["git", "show", f":{path}"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        pytest.skip(f"git does not give the committed {path}: {done.stderr.strip()}")
    return done.stdout


def metrics(path: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(committed(path))
    return content


def prose(path: str) -> str:
    """Returns a page's text with single spaces."""
    return re.sub(r"\s+", " ", committed(path))


@pytest.mark.parametrize(
    ("page", "dataset"),
    [
        ("README.md", "demo_fiq"),
        ("docs/demo-results.md", "demo_cirr"),
        ("docs/demo-results.md", "demo_fiq"),
        ("docs/tutorial.md", "demo_fiq"),
    ],
)
def test_the_tables_of_scores_are_the_committed_ones(page, dataset):
    assert "\n".join(
        table(*(metrics(f"metrics/{dataset}/{name}.json") for name in ("clip", "baselines")))
    ) in committed(page)


def test_the_figures_of_the_small_models_are_the_committed_ones():
    captioner, clip, encoder = (metrics(f"metrics/demo/{name}.json") for name in ("captioner", "clip", "encoder"))
    expected = (
        f"names {captioner['mean']:.1f} % of attributes correctly on average and {captioner['min']:.1f} % of the worst "
        f"({captioner['worst']})",
        f"encoder share {encoder['garment_shared']:.0f} % (garments, chance {encoder['garment_chance']:.0f} %) and "
        f"{encoder['scene_shared']:.0f} % (scenes, chance {encoder['scene_chance']:.0f} %)",
        f"among {clip['batch']} in {clip['garment_recall_at1']:.0f} % and {clip['scene_recall_at1']:.0f} % of cases",
    )
    for sentence in expected:
        assert sentence in prose("docs/demo-results.md")


def test_the_tutorials_figure_of_the_captioner_is_the_committed_one():
    mean = metrics("metrics/demo/captioner.json")["mean"]
    assert f"It names {mean:.1f} % of the attributes rightly" in prose("docs/tutorial.md")


def verdict(row: str, reference: str) -> list[str]:
    """Returns the differences of a row of the research on the data sets, with their intervals, to one digit."""
    table = committed("docs/research.md").split("## Verdicts")[1].split("## Scores")[0]
    (line,) = (line for line in table.splitlines() if line.startswith(f"| {row} | {reference} | "))
    differences = [re.findall(r"[+-][\d.]+", cell) for cell in line.split("|")[3:-2]]
    return ["{:+.1f} [{:+.1f}, {:+.1f}]".format(*map(float, difference)) for difference in differences]


@pytest.mark.parametrize(("family", "row", "reference"), [("clip", "plus", "paper"), ("zs", "zs plus", "zs")])
def test_the_gain_of_the_recipe_plus_is_that_of_the_research(family, row, reference):
    lines = committed("README.md").splitlines()
    (line,) = (line for line in lines if line.startswith(f"| `{family}`, ") and line.count(" [") == 3)
    assert [cell.strip() for cell in line.split("|")[2:-1]] == verdict(row, reference)


def research_rows(dataset: str) -> dict[str, list[str]]:
    """Returns the scores of the rows of `clip` on a data set, by the name of the row."""
    table = committed("docs/research.md").split(f"### {dataset}, clip")[1].split("###")[0]
    cells = ([cell.strip() for cell in line.split("|")] for line in table.splitlines() if " ± " in line)
    return {row[1]: row[2:-1] for row in cells}


@pytest.mark.parametrize(
    ("label", "dataset", "score"),
    [
        ("garments, mean of R@10 and R@50", "demo_fiq", 2),
        ("garments, R@10", "demo_fiq", 0),
        ("scenes, mean of R@5 and Rs@1", "demo_cirr", 3),
        ("scenes, R@1", "demo_cirr", 0),
        ("emoji, mean of R@5 and Rs@1", "demo_emoji", 3),
        ("emoji, R@1", "demo_emoji", 0),
    ],
)
def test_the_table_of_the_ideas_is_that_of_the_research(label, dataset, score):
    rows = research_rows(dataset)
    cells = [rows[name][score].split(" ± ") for name in ("stage 1", "control", "+N", "+P", "paper", "plus")]
    expected = " | ".join(f"{float(mean):.1f} ({float(deviation):.1f})" for mean, deviation in cells)
    assert f"| {label} | {expected} |" in committed("docs/demo-results.md")
