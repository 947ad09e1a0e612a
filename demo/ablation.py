"""`make ablation`: what more positives and more negatives bring on the demo, over several seeds.

Five rows: stage 1; control (as many more epochs, negatives from the batch, annotated triplets); +N (the bank);
+P (generated triplets too); +P+N. Each row and seed is a DVC experiment of both data sets; nothing of the workspace
changes.
"""

import json
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

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


def overrides(row: str, seed: int) -> list[str]:
    """The params of a row's experiment, as `dvc exp run -S` takes them."""
    negatives, positives = ROWS[row]
    settings = [f"seed={seed}"]
    for dataset in DATASETS:
        settings += [f"train.{dataset}.clip.negatives={negatives}", f"train.{dataset}.clip.positives={positives}"]
    return settings


def command(row: str, seed: int) -> list[str]:
    """The command of a row's experiment; the workspace is left as it is."""
    name = "ablation-" + row.strip("+").replace("+", "-").lower() + f"-{seed}"
    flags = [part for setting in overrides(row, seed) for part in ("-S", setting)]
    return ["dvc", "exp", "run", "--temp", "-n", name, *flags, "validate"]


def _run(arguments: list[str]) -> str:
    done = subprocess.run(arguments, text=True, stdout=subprocess.PIPE)
    if done.returncode:
        raise InputError(f"{' '.join(arguments)} ended with status {done.returncode}; its message stands above")
    return done.stdout


def metrics_of(row: str, seed: int) -> dict[str, dict[str, Any]]:
    """Runs a row's experiment; the metrics file of each data set."""
    arguments = command(row, seed)
    name = arguments[arguments.index("-n") + 1]
    subprocess.run(["dvc", "exp", "remove", name], capture_output=True, check=False)  # one of an earlier ablation
    print("$ " + " ".join(arguments), flush=True)
    _run(arguments)
    commit = _revision(name)
    return {dataset: json.loads(_run(["git", "show", f"{commit}:metrics/{dataset}/clip.json"])) for dataset in DATASETS}


def _revision(name: str) -> str:
    """The commit of an experiment's name."""
    references = _run(["git", "for-each-ref", "--format=%(objectname) %(refname)", "refs/exps"])
    for line in references.splitlines():
        commit, reference = line.split()
        if reference.endswith(f"/{name}"):
            return commit
    raise InputError(f"experiment {name} is not among those that DVC keeps; run make ablation again")


def collect() -> dict[str, dict[str, list[dict[str, float]]]]:
    """Scores by row, data set and seed."""
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
    """The tables in Markdown: mean and standard deviation over the seeds, in percent."""
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
    """Runs every row and seed and writes `docs/ablation.md`. Raises InputError when an experiment fails."""
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
