"""`make ablation`: the effect of more positives and more negatives on the demo, over several seeds.

Five rows: stage 1; control (further epochs with negatives from the batch and annotated triplets); +N (the bank);
+P (also generated triplets); +P+N. Each row and seed is a DVC experiment of both data sets; the workspace does not
change.
"""

import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from demo import experiments
from spn4cir.errors import InputError
from spn4cir.files import atomic_file

SEEDS = (1, 2, 3)
DATASETS = ("demo_fiq", "demo_cirr")
ROWS = {
    "control": ("batch", "annotated"),
    "+N": ("bank", "annotated"),
    "+P": ("batch", "both"),
    "+P+N": ("bank", "both"),
}
SCORES = {
    "demo_fiq": ("average_recall_at10", "average_recall_at50", "average_recall"),
    "demo_cirr": ("recall_at1", "recall_at5", "recall_subset_at1", "mean_recall5_subset1"),
}
OUT = Path("docs/ablation.md")


def overrides(row: str, seed: int) -> dict[str, str]:
    """Returns the params of a row's experiment; `++` also sets keys that the entry of the data set leaves out."""
    negatives, positives = ROWS[row]
    settings = {"seed": str(seed)}
    for dataset in DATASETS:
        settings |= {f"++train.{dataset}.clip.negatives": negatives, f"++train.{dataset}.clip.positives": positives}
    return settings


def command(row: str, seed: int) -> list[str]:
    """Returns the command of a row's experiment, which does not change the workspace."""
    name = "ablation-" + row.strip("+").replace("+", "-").lower() + f"-{seed}"
    return experiments.command(name, overrides(row, seed), ["validate"])


def metrics_of(row: str, seed: int) -> dict[str, dict[str, Any]]:
    """Runs the experiment of a row and seed. Returns the metrics of each data set."""
    commit = experiments.run(command(row, seed))
    return {dataset: experiments.metrics_at(commit, dataset, "clip") for dataset in DATASETS}


def collect() -> dict[str, dict[str, list[dict[str, float]]]]:
    """Runs all experiments. Returns the metrics by row, data set and seed."""
    found: dict[str, dict[str, list[dict[str, float]]]] = {
        row: {dataset: [] for dataset in DATASETS} for row in ("stage 1", *ROWS)
    }
    for seed in SEEDS:
        for row in ROWS:
            for dataset, metrics in metrics_of(row, seed).items():
                found[row][dataset].append(metrics)
                if row == "control":
                    found["stage 1"][dataset].append(metrics["stage1"])
    return found


def report(found: dict[str, dict[str, list[dict[str, float]]]]) -> str:
    """Returns the tables in Markdown: mean and standard deviation over the seeds, in percent."""
    lines = []
    for dataset in DATASETS:
        keys = SCORES[dataset]
        lines += [f"## {dataset}", "", "| row | " + " | ".join(keys) + " |", "|---" * (len(keys) + 1) + "|"]
        for row, scores in found.items():
            cells = [_cell([each[key] for each in scores[dataset]]) for key in keys]
            lines.append(f"| {row} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    return f"{mean(values):.2f} ± {stdev(values):.2f}"


def main() -> None:
    """Runs every row and seed and writes `docs/ablation.md`. Raises InputError if an experiment fails."""
    tables = report(collect())
    commands = "\n".join(" ".join(command(row, seed)) for seed in SEEDS for row in ROWS)
    text = f"""# What positives and negatives bring, on the demo

Written by `make ablation`: mean ± standard deviation over the seeds {", ".join(map(str, SEEDS))}, in percent. A seed
decides the matched pairs, the stage-1 training and the stage-2 training, so every row of a seed starts from the same
stage-1 weights. `stage 1`: those weights. `control`: as many more epochs as the other rows, negatives from the batch,
annotated triplets. `+N`: the bank as negatives. `+P`: generated triplets beside the annotated ones. `+P+N`: both.

{tables}
The commands, in order:

```
{commands}
```
"""
    with atomic_file(OUT) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
