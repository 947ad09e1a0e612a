"""The page of `make research`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from demo.research.rows import ResearchTable, command
from demo.research.statistics import PairedChange, Results, changes, seconds, spread, verdict
from demo.research.store import Cell


class Compared(NamedTuple):
    """The results of some rows, seeds and data sets.

    Attributes:
        table: the definitions of the rows.
        rows: names of the rows, in the order of the table.
        seeds: the seeds.
        results: results by data set.
        draw: number of the draw of the data sets.
    """

    table: ResearchTable
    rows: tuple[str, ...]
    seeds: tuple[int, ...]
    results: Mapping[str, Results]
    draw: int


def score_tables(compared: Compared) -> list[str]:
    """Returns a table for each data set and family: scores, differences of the last score, seconds of stage 2."""
    lines = []
    for dataset in compared.results:
        for family, references in compared.table.references.items():
            rows = [name for name in compared.rows if compared.table.rows[name].family == family]
            known = [name for name in references if name in compared.rows]
            if rows:
                lines += [f"### {dataset}, {family}", "", *_table(compared, dataset, rows, known), ""]
    return lines


def _table(compared: Compared, dataset: str, rows: Sequence[str], references: Sequence[str]) -> list[str]:
    results, scores = compared.results[dataset], compared.table.datasets[dataset].scores
    heads = ["row", *scores, *(f"{scores[-1]} against {name}" for name in references), "seconds"]
    lines = [f"| {' | '.join(heads)} |", "|---" + "|---:" * (len(heads) - 1) + "|"]
    for name in rows:
        cells = [name, *(str(spread(results, name, compared.seeds, score)) for score in scores)]
        for reference in references:
            cells.append("" if name == reference else str(_change(compared, dataset, name, reference)))
        took = None if compared.table.rows[name].of else seconds(results, name, compared.seeds)
        lines.append(f"| {' | '.join([*cells, '' if took is None else f'{took:.1f}'])} |")
    return lines


def _change(compared: Compared, dataset: str, row: str, reference: str) -> PairedChange:
    score = compared.table.datasets[dataset].scores[-1]
    return changes(compared.results[dataset], row, reference, compared.seeds)[score]


def verdicts(compared: Compared) -> list[str]:
    """Returns the table of verdicts: the difference of every row from the first reference of its family."""
    heads = ["row", "against", *compared.results, "verdict"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name in compared.rows:
        reference = compared.table.references[compared.table.rows[name].family][0]
        if name != reference and reference in compared.rows:
            found = [_change(compared, dataset, name, reference) for dataset in compared.results]
            lines.append(f"| {' | '.join([name, reference, *map(str, found), verdict(found)])} |")
    return lines


def meanings(compared: Compared) -> list[str]:
    """Returns the table of the rows: name, family, meaning, and the settings that their results were stored with."""
    first = next(iter(compared.results.values()))
    lines = ["| row | family | what it is | settings |", "|---|---|---|---|"]
    for name in compared.rows:
        row, settings = compared.table.rows[name], first[Cell(name, compared.seeds[0])].settings
        cells = [name, row.family, row.means, f"`{settings}`" if settings else ""]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def trials(compared: Compared) -> list[str]:
    """Returns the section of one draw on which settings were chosen."""
    call = f'make research DRAW={compared.draw} SEEDS="{" ".join(map(str, compared.seeds))}"'
    if len(compared.rows) < len(compared.table.rows):
        call += f' ROWS="{",".join(compared.rows)}"'
    lines = [f"## Draw {compared.draw} of the data sets", "", f"`{call}`, for these rows:", ""]
    alone = [ONE_SEED, ""] if len(compared.seeds) == 1 else []
    return [*lines, *meanings(compared), "", *alone, *score_tables(compared)]


def commands(compared: Compared) -> list[str]:
    """Returns the commands of the experiments."""
    runs = dict.fromkeys(compared.table.run_of(name) for name in compared.rows)
    datasets = list(compared.results)
    return [
        shlex.join(command(compared.table, run, seed, compared.draw, datasets))
        for seed in compared.seeds
        for run in runs
    ]


def page(compared: Compared, chosen_on: Sequence[Compared], machine: str, findings: str) -> str:
    """Returns the page.

    Args:
        compared: the results.
        chosen_on: the results on other draws of the data sets.
        machine: the processor and the time that the runs took.
        findings: a section about what the results show.
    """
    steps = [
        f"{dataset} {', '.join(f'{count} ({family})' for family, count in data.steps.items())}"
        for dataset, data in compared.table.datasets.items()
        if dataset in compared.results
    ]
    sections = [
        INTRODUCTION.format(seeds=", ".join(map(str, compared.seeds)), steps="; ".join(steps)),
        "## The rows\n",
        *meanings(compared),
        "\n## Verdicts\n",
        VERDICTS,
        *verdicts(compared),
        f"\n{findings}",
        "## Scores\n",
        SCORES,
        *score_tables(compared),
        "## How settings were chosen\n",
        CHOSEN if chosen_on else NOT_CHOSEN,
        *(line for each in chosen_on for line in trials(each)),
        "## The commands\n",
        f"{machine}\n",
        "```",
        *commands(compared),
        "```",
    ]
    return "\n".join(sections) + "\n"


INTRODUCTION = """# Beyond the published recipe, on the demo

Written by `make research`, which compares rows of settings on the demo's data sets over the seeds {seeds}. A seed
decides the matched pairs, the training of stage 1 and that of stage 2, so every row of a seed and family starts from
the same stage-1 weights, except `zs plus`, whose stage 1 learns from its own triplets. Every row makes the same number
of optimiser steps in an epoch of stage 2: {steps}.
"""

VERDICTS = """\
The difference in the score that selects the best epoch, in percentage points, with a 95 % interval, from the row in the
column `against`. Differences are paired by seed and by query; the interval is a bootstrap over both, so it is about
other seeds and other queries of the same kind. Bold: the interval excludes 0. A row is better or worse if its interval
excludes 0 on at least two data sets, on the same side, and on none on the other side.
"""

SCORES = """\
Mean ± standard deviation over the seeds, in percent; the differences as above. `seconds`: running time of the stage
`train`, on one thread; rows without it are other answers of a trained row.
"""

CHOSEN = """\
The recipe `plus` was chosen on other draws of the data sets and other seeds than those of the tables above: it is the
best of about forty combinations of windows, templates, weights, losses, averages and learning rates, each tried with
two seeds by training stage 2 alone. The sections below repeat the last of them by the whole pipeline. The values of the
other rows are those of papers or of first trials, some of them on the demo's own draw, so these rows can look slightly
better here than on new data. Results of other draws are shown as they were stored, also if code or settings have
changed since. The draws of `demo_emoji` are different splits of one collection of images.
"""

ONE_SEED = "There is one seed, so the intervals are about other queries alone."

NOT_CHOSEN = """\
No other draw of the data sets was used.
"""
