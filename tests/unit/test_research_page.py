"""The page of `make research`, from made-up results."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from demo.research import page
from demo.research.page import Compared
from demo.research.rows import STAGE1
from demo.research.statistics import PairedChange, changes, seconds, spread, verdict
from demo.research.store import Cell, Result
from spn4cir.datasets.cirr import Cirr
from spn4cir.datasets.fashioniq import FashionIQ
from spn4cir.errors import InputError
from spn4cir.evaluation.score_recipe import RECIPE_KEY, score_recipe, write_recipe
from tests.helpers.research import make_table

SEEDS = (1, 2, 3)
SPLITS = {"demo_fiq": ("dress", "shirt", "toptee"), "demo_cirr": ("val",)}
LAYOUTS = {"demo_fiq": FashionIQ, "demo_cirr": Cirr}
TABLE = make_table(
    good={"settings": {"train.tau": 0.5}},
    bad={"settings": {}},
    before={"of": "paper", "answer": STAGE1},
    tried={"settings": {}, "trial": True},
)


def result(dataset: str, found: float, seed: int, row: str) -> Result:
    """A run that ranks the target first in a share of its queries, else last."""
    splits = [split for split in SPLITS[dataset] for _ in range(200)]
    generator = np.random.default_rng([seed, len(row)])
    rank = np.where(generator.random(len(splits)) < found, 1, 90)
    columns = {"split": splits, "query": list(range(len(splits))), "rank": rank, "subset_rank": np.minimum(rank, 5)}
    recipe = write_recipe(score_recipe(LAYOUTS[dataset]("", "error"), SPLITS[dataset]))  # type: ignore[arg-type]
    table = pa.table(columns).replace_schema_metadata({RECIPE_KEY: recipe})
    return Result("key", "train.tau=0.5" if row == "good" else "", None if row == "bad" else 2.0 + seed, table)


def compared(rows: tuple[str, ...] = tuple(TABLE.rows)[:-1], draw: int = 1) -> Compared:
    shares = {"good": 0.9, "bad": 0.2}
    results = {
        dataset: {Cell(row, seed): result(dataset, shares.get(row, 0.5), seed, row) for row in rows for seed in SEEDS}
        for dataset in SPLITS
    }
    return Compared(TABLE, rows, SEEDS, results, draw)


def test_the_verdict_needs_two_data_sets_on_one_side() -> None:
    up, down, none = PairedChange(2.0, 1.0, 3.0), PairedChange(-2.0, -3.0, -1.0), PairedChange(0.5, 0.0, 1.0)
    assert (up.sign, down.sign, none.sign) == (1, -1, 0)
    assert verdict([up, up, none]) == "better"
    assert verdict([down, none, down]) == "worse"
    assert {verdict(each) for each in ([up], [up, none, none], [up, up, down], [down, down, up], [none])} == {
        "no difference shown"
    }


def test_the_page_gives_verdicts_scores_and_commands() -> None:
    text = page.page(compared(), [], "Processor: one.", "## Findings\n")
    (good,) = (line for line in text.splitlines() if line.startswith("| good | paper |"))
    (bad,) = (line for line in text.splitlines() if line.startswith("| bad | paper |"))
    assert good.endswith("| better |")
    assert bad.endswith("| worse |")
    (before,) = (line for line in text.splitlines() if line.startswith("| before | paper |"))
    assert before.endswith("| no difference shown |")
    assert text.count("dvc exp run -n research-") == 3 * 4, "of each seed and trained row"
    assert "### demo_cirr, clip" in text
    assert "Processor: one." in text
    assert "`train.tau=0.5`" in text
    assert "No other draw" in text


def test_scores_are_means_with_their_deviation_and_the_time_of_stage_2() -> None:
    data = compared()
    lines = page.score_tables(data)
    score = TABLE.datasets["demo_fiq"].scores[-1]
    values = [data.results["demo_fiq"][Cell("good", seed)].scores[score] for seed in SEEDS]
    (row, _) = (line for line in lines if line.startswith("| good |"))
    assert f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}" in row
    assert row.endswith("| 4.0 |"), "the mean of 3, 4 and 5 seconds"
    assert next(line for line in lines if line.startswith("| bad |")).endswith("|  |"), "no time was measured"
    assert next(line for line in lines if line.startswith("| before |")).endswith("|  |"), "it is not trained"
    assert seconds(data.results["demo_fiq"], "bad", SEEDS) is None


def test_one_seed_has_no_deviation() -> None:
    one = spread(compared().results["demo_fiq"], "good", (1,), "average_recall")
    assert one.deviation is None
    assert str(one) == f"{one.mean:.2f}"


def test_the_draws_that_settings_were_chosen_on_are_a_section_of_their_own() -> None:
    text = page.page(compared(), [compared(("control", "paper", "tried"), draw=2)], "", "")
    start = text.index("## Draw 2 of the data sets")
    assert '`make research DRAW=2 SEEDS="1 2 3" ROWS="control,paper,tried"`' in text
    assert "| tried |" in text[start:]
    assert "| tried |" not in text[:start]
    assert "No other draw" not in text
    assert page.ONE_SEED not in text


def test_a_draw_with_one_seed_says_what_its_intervals_mean() -> None:
    assert page.ONE_SEED in page.trials(compared(("control", "paper"), draw=2)._replace(seeds=(1,)))


def test_rows_over_other_queries_are_refused() -> None:
    results = dict(compared().results["demo_cirr"])
    other = results[Cell("good", 2)]
    results[Cell("good", 2)] = replace(other, table=other.table.slice(1))
    with pytest.raises(InputError, match="their queries differ"):
        changes(results, "good", "paper", SEEDS)
