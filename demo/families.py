"""`make demo-all`: every family on all demo data sets, and a page of their scores.

One DVC experiment runs all pairs of data set and family, also those of `make demo`. In the workspace only the page
changes. A stage that DVC takes from its cache keeps the time of its last run.
"""

import shlex
import sys
from pathlib import Path
from typing import Any

from demo import experiments
from demo.draw import circo
from demo.draw.cirr import GROUP_SIZE
from demo.stopwatch import Stopwatch
from spn4cir.errors import InputError
from spn4cir.files import atomic_file
from spn4cir.json_files import read_json, write_json

FAMILIES = ("clip", "tgcir", "blip", "blip2", "zs", "zs_cc")
DATASETS = ("demo_fiq", "demo_cirr", "demo_circo")
# Name of a data set in DVC's stages if it differs: DVC numbers entries of a matrix that are mappings.
ITEMS = {"demo_circo": "benchmark0"}
# Metric, heading, k, and the number of ranked candidates; None for the gallery.
SCORES: dict[str, tuple[tuple[str, str, int, int | None], ...]] = {
    "demo_fiq": (("average_recall_at10", "R@10", 10, None), ("average_recall_at50", "R@50", 50, None)),
    "demo_cirr": (
        ("recall_at1", "R@1", 1, None),
        ("recall_at5", "R@5", 5, None),
        ("recall_subset_at1", "Rs@1", 1, GROUP_SIZE - 1),
    ),
    "demo_circo": (("map_at10", "mAP@10", 10, None), ("recall_at10", "R@10", 10, None)),
}
OUT = Path("docs/families.md")
# Beside the unfinished work of stopped stages, as neither is a result.
TIMES = Path("data/work/families.json")
COMMAND = experiments.command(
    "families",
    {
        "run.models": f"[{','.join(FAMILIES)}]",
        "run.benchmarks": "[{name:demo_circo,weights:demo_cirr}]",
        "demo/params.yaml:drawn": f"[{','.join(DATASETS)}]",
    },
)


def chance(metrics: dict[str, Any], key: str, k: int, ranked: int | None) -> float:
    """Returns the expected score of a random order, in percent.

    Args:
        metrics: content of the metrics file.
        key: name of the score.
        k: rank of the score.
        ranked: number of candidates; None for those of the gallery.
    """
    if ranked is None:
        sizes = metrics["counts"]["gallery"].values()
        ranked = round(sum(sizes) / len(sizes)) - ("removed" in metrics["protocol"]["reference"])
    if key.startswith("map"):
        counts = [(int(n), queries) for part in metrics["counts"]["targets"].values() for n, queries in part.items()]
        reached = sum(circo.chance(ranked, targets, k) * queries for targets, queries in counts)
        return float(100 * reached / sum(queries for _, queries in counts))
    return 100 * min(k / ranked, 1.0)


def pair_seconds(seconds: dict[str, float], dataset: str, family: str) -> float | None:
    """Returns the running time of the stages of one pair; None if none was measured."""
    found = [value for stage, value in seconds.items() if stage.endswith(f"@{ITEMS.get(dataset, dataset)}-{family}")]
    return sum(found) if found else None


def table(found: dict[tuple[str, str], dict[str, Any]], dataset: str, seconds: dict[str, float]) -> list[str]:
    """Returns the table of a data set in Markdown: scores in percent, beside those of a random order."""
    scores = SCORES[dataset]
    heads = [f"{head} {part}" for _, head, _, _ in scores for part in ("chance", "stage 1", "stage 2")]
    lines = [f"| {' | '.join(['family', *heads, 'seconds'])} |", "|---" + "|---:" * (len(heads) + 1) + "|"]
    for family in FAMILIES:
        metrics, cells = found[dataset, family], [family]
        for key, _, k, ranked in scores:
            cells += [
                f"{value:.1f}" for value in (chance(metrics, key, k, ranked), metrics["stage1"][key], metrics[key])
            ]
        took = pair_seconds(seconds, dataset, family)
        cells.append("" if took is None else f"{took:.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def times(seconds: dict[str, float]) -> str:
    """Returns sentences with the running time of the shared stages and of all stages that were measured."""
    ends = tuple(f"-{family}" for family in FAMILIES)
    shared = sum(value for stage, value in seconds.items() if not stage.endswith(ends))
    return (
        f"The stages that pairs share (images, base models, captions, matches) took {shared:.0f} seconds. "
        f"All measured stages took {sum(seconds.values()) / 60:.0f} minutes."
    )


def report(found: dict[tuple[str, str], dict[str, Any]], seconds: dict[str, float]) -> str:
    """Returns the page."""
    parts = []
    for dataset in DATASETS:
        parts += [f"## {dataset}", "", *table(found, dataset, seconds), ""]
    return f"""# The families, on the demo

`make demo-all` writes this page. Scores are in percent. `chance`: a random order. `stage 1`: trained with negatives
from the batch. `stage 2`: trained with the bank of all images. `zs` is trained on generated triplets of the data set's
own images alone, `zs_cc` on those of a drawn pool of other images; the others are first trained on annotated triplets.
The base models of `blip` and `blip2` are trained on changes between drawn images, CLIP only on captions.
`demo_circo` is scored with the weights of `demo_cirr`; its queries have several targets.
`seconds`: running time of the pair's own stages, from its triplets to its scores; empty if all came from DVC's cache.

{times(seconds)}

{chr(10).join(parts)}
The command:

```
{shlex.join(COMMAND)}
```
"""


def main() -> None:
    """Runs all pairs, writes `docs/families.md` and prints it. Raises InputError if a stage fails."""
    watch = Stopwatch(read_json(TIMES) if TIMES.exists() else {})
    with experiments.warm_stages() as environment:
        commit = experiments.run(COMMAND, environment, watch.follow)
    watch.stop()
    write_json(TIMES, watch.seconds, indent=2)
    pairs = [(dataset, family) for dataset in DATASETS for family in FAMILIES]
    page = report({pair: experiments.metrics_at(commit, *pair) for pair in pairs}, watch.seconds)
    with atomic_file(OUT) as temporary:
        temporary.write_text(page, encoding="utf-8")
    print(f"\n{page}\nWritten: {OUT}")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
