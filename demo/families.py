"""`make demo-all`: every family on both demo data sets, and one table of what they reach.

One DVC experiment runs all pairs, what `make demo` runs included; nothing of the workspace changes but the table. A
stage that DVC takes from its cache keeps the time that it took when it last ran.
"""

import re
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from demo import experiments
from demo.draw import circo
from demo.draw.cirr import GROUP_SIZE
from spn4cir.errors import InputError
from spn4cir.files import atomic_file, read_json, write_json

FAMILIES = ("clip", "tgcir", "blip", "blip2", "zs", "zs_cc")
DATASETS = ("demo_fiq", "demo_cirr", "demo_circo")
# What DVC calls a table's pairs, where it is another name than the data set's: matrix entries that are no names.
ITEMS = {"demo_circo": "benchmark0"}
# Metric, heading, k, and the size of what is ranked; None: the gallery.
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
# Kept beside what killed stages leave, as neither is a result.
TIMES = Path("data/work/families.json")
COMMAND = experiments.command(
    "families",
    {
        "run.models": f"[{','.join(FAMILIES)}]",
        "run.benchmarks": "[{name:demo_circo,weights:demo_cirr}]",
        "demo/params.yaml:drawn": f"[{','.join(DATASETS)}]",
    },
)
_STARTS = re.compile(r"Running stage '(?:.*:)?([\w@-]+)'")
_ENDS = re.compile(r"(Stage|Updating|To track|Ran experiment)\b")


class Stopwatch:
    """Seconds that each stage ran, from the lines in which DVC tells of them.

    Attributes:
        seconds: by stage, those of earlier runs included.
    """

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = dict(seconds)
        self._running: tuple[str, float] | None = None

    def follow(self, line: str) -> None:
        """Takes up one line, and prints it."""
        print(line, flush=True)
        found = _STARTS.match(line)
        if found or _ENDS.match(line):
            self.stop()
        if found:
            self._running = (found.group(1), time.monotonic())

    def stop(self) -> None:
        """The stage that runs, if any, has ended."""
        if self._running:
            stage, start = self._running
            self.seconds[stage] = round(time.monotonic() - start, 1)
        self._running = None


def chance(metrics: dict[str, Any], key: str, k: int, ranked: int | None) -> float:
    """What a random order reaches, in percent; `ranked`: how many candidates, None: the gallery's."""
    if ranked is None:
        sizes = metrics["counts"]["gallery"].values()
        ranked = round(sum(sizes) / len(sizes)) - ("removed" in metrics["protocol"]["reference"])
    if key.startswith("map"):
        counts = [(int(n), queries) for part in metrics["counts"]["targets"].values() for n, queries in part.items()]
        reached = sum(circo.chance(ranked, targets, k) * queries for targets, queries in counts)
        return float(100 * reached / sum(queries for _, queries in counts))
    return 100 * min(k / ranked, 1.0)


def pair_seconds(seconds: dict[str, float], dataset: str, family: str) -> float | None:
    """Of the stages of one pair; None where none was measured."""
    found = [value for stage, value in seconds.items() if stage.endswith(f"@{ITEMS.get(dataset, dataset)}-{family}")]
    return sum(found) if found else None


def table(found: dict[tuple[str, str], dict[str, Any]], dataset: str, seconds: dict[str, float]) -> list[str]:
    """A data set's table in Markdown: percent, with chance beside it."""
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
    """What all stages took, as far as it was measured."""
    ends = tuple(f"-{family}" for family in FAMILIES)
    shared = sum(value for stage, value in seconds.items() if not stage.endswith(ends))
    return (
        f"Besides these, {shared:.0f} seconds went into what pairs share: images, base models, captions, matches. "
        f"All stages that were timed: {sum(seconds.values()) / 60:.0f} minutes."
    )


def report(found: dict[tuple[str, str], dict[str, Any]], seconds: dict[str, float]) -> str:
    """The whole page."""
    parts = []
    for dataset in DATASETS:
        parts += [f"## {dataset}", "", *table(found, dataset, seconds), ""]
    return f"""# The families, on the demo

Written by `make demo-all`, in percent. `chance`: what a random order reaches. `stage 1`: trained with negatives from
the batch. `stage 2`: trained with the bank of all images. `zs` learns from generated triplets of the data set's own
images alone, `zs_cc` from those of a drawn pool of other images; the others begin with annotated triplets. The base
models of `blip` and `blip2` were taught to follow changes between drawn images, CLIP only to know captions.
`demo_circo` is scored by the weights of `demo_cirr`; its queries have several targets each.
`seconds`: of the pair's own stages, from its triplets to its scores; none where DVC had them all from its cache.

{times(seconds)}

{chr(10).join(parts)}
The command:

```
{shlex.join(COMMAND)}
```
"""


def main() -> None:
    """Runs all pairs, writes `docs/families.md` and prints it. Raises InputError when a stage fails."""
    watch = Stopwatch(read_json(TIMES) if TIMES.exists() else {})
    commit = experiments.run(COMMAND, watch.follow)
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
