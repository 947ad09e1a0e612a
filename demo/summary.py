"""The end of the output of `make demo`: the scores, the paths of the results, the next commands."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from demo.wanted import shortfalls
from spn4cir.errors import InputError
from spn4cir.json_files import read_json

_COLUMNS = {
    "average_recall_at10": "R@10",
    "average_recall_at50": "R@50",
    "average_recall": "mean",
    "recall_at1": "R@1",
    "recall_at5": "R@5",
    "recall_at10": "R@10",
    "recall_at50": "R@50",
    "recall_subset_at1": "Rs@1",
    "mean_recall5_subset1": "mean",
    "map_at10": "mAP@10",
}
_RULES = {"text": "text only", "image": "image only", "sum": "sum"}
# Networks that are scored without training have no stages.
_BASELINES = "baselines.json"
_NEXT = """\
Images:     data/validate/<data set>/clip/contact_sheet.png   (queries, their top 5, targets framed)
Per query:  data/validate/<data set>/clip/queries.parquet
Submission: data/submit/demo_cirr/clip/

Next, with the environment active (. .venv/bin/activate):
  dvc repro                                                  nothing to do: everything is cached
  make demo-all                                              every family, in one table: docs/families.md
  dvc exp run -S train.demo_fiq.clip.tau=0.05                another temperature; spn4cir runs lists it
  spn4cir add-dataset fiq --layout fashioniq --path FOLDER   your own FashionIQ folder (cirr: likewise)
"""
# A complete run on another machine changes these files: it trains other weights, which have other scores.
_LOCKED = ("dvc.lock", "demo/dvc.lock", "metrics")
_LOCK = """\
  git commit -m "Build the demo" dvc.lock demo/dvc.lock metrics   the weights and scores of this machine
"""


def table(metrics: dict[str, Any], baselines: dict[str, Any]) -> list[str]:
    """Returns lines with the scores of the baselines, of stage 1 and stage 2, in percent, and the stages' difference.

    Args:
        metrics: content of a metrics file of a data set and family.
        baselines: content of the data set's `baselines.json`; empty for none.
    """
    keys = [key for key in _COLUMNS if key in metrics]
    after, before = metrics, metrics["stage1"]
    rows = [
        *(
            (label, [f"{rules[rule][key]:7.2f}" for key in keys])
            for rules in baselines.values()
            for rule, label in _RULES.items()
        ),
        ("stage 1", [f"{before[key]:7.2f}" for key in keys]),
        ("stage 2", [f"{after[key]:7.2f}" for key in keys]),
        ("gain", [f"{after[key] - before[key]:+7.2f}" for key in keys]),
    ]
    width = max(len(name) for name, _ in rows)
    head = f"  {'':{width}}" + "".join(f"{_COLUMNS[key]:>8}" for key in keys)
    return [head, *(f"  {name:{width}}" + "".join(f" {value}" for value in values) for name, values in rows)]


def weak_models(metrics: Path, models: Path) -> list[str]:
    """Returns lines about the demo's small models that are weaker than wanted, if any.

    Args:
        metrics: folder of the metrics files.
        models: folder of the data sets' models; the figures of a BLIP or BLIP-2 are beside it.
    """
    found = {file.stem: file for file in sorted(metrics.glob("demo/*.json"))}
    found |= {file.parent.name: file for file in sorted(models.glob("demo_*/stage1/*/measured.json"))}
    lines = [f"  {name}: {phrase} ({file})" for name, file in found.items() for phrase in shortfalls(read_json(file))]
    if not lines:
        return []
    return ["", "Weaker than wanted, so that the scores may be lower than documented (docs/demo-models.md):", *lines]


def is_locked() -> bool:
    """Returns whether the lock files and the scores are committed; True without a git repository."""
    try:
        done = subprocess.run(["git", "diff", "--quiet", "--", *_LOCKED], check=False, capture_output=True)
    except OSError:
        return True
    return done.returncode != 1


def main(folder: Path, models: Path = Path("data/models")) -> None:
    """Prints the tables of every metrics file of the demo, and the small models that are weaker than wanted.

    Raises InputError if there is no metrics file.
    """
    files = [file for file in sorted(folder.glob("demo_*/*.json")) if file.name != _BASELINES]
    if not files:
        raise InputError(f"{folder}: contains no metrics of the demo; run: make demo")
    for file in files:
        queries = read_json(file)["counts"]["queries"]
        print(f"\n{file.parent.name}, {file.stem}: percent, {sum(queries.values())} queries ({file})")
        beside = file.with_name(_BASELINES)
        print("\n".join(table(read_json(file), read_json(beside) if beside.is_file() else {})))
    for line in weak_models(folder, models):
        print(line)
    print(f"\n{_NEXT}", end="" if is_locked() else _LOCK)


if __name__ == "__main__":
    try:
        main(Path("metrics"))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
