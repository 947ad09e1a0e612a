"""`make research`: compares rows of settings on the demo's data sets over several seeds; see docs/research.md.

Results are stored when a run ends, so the command continues after an interruption. The workspace changes in
metrics/research and docs/research.md alone.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from demo.research import page
from demo.research.page import Compared
from demo.research.published import require_published
from demo.research.rows import ResearchTable, read_table
from demo.research.runs import Research
from demo.research.store import FOLDER, Cell, read_results, results_file
from spn4cir.config.params import PARAMS_FILE
from spn4cir.errors import InputError
from spn4cir.files import atomic_file
from spn4cir.json_files import read_json, write_json

OUT = Path("docs/research.md")
# Written by hand about the committed results.
FINDINGS = Path(__file__).parent / "findings.md"
# Number and minutes of the experiments of each draw, beside the unfinished work of stopped stages.
TIMES = Path("data/work/research.json")
SEEDS = (1, 2, 3, 4, 5)
_PROCESSOR = "Processor: "
_SEEDS_END = 1 << 32
_MOST_WORKERS = 4


def main() -> None:
    """Runs what is missing and prints the tables; writes the page if all rows, seeds and data sets were asked for."""
    asked = _arguments()
    table = read_table()
    rows = _rows(table, asked.rows, asked.draw)
    datasets = _chosen("DATASETS", asked.datasets, list(table.datasets))
    require_published(table, rows, datasets, Path(PARAMS_FILE))
    seeds = asked.seeds or SEEDS
    os.environ["OMP_NUM_THREADS"] = "1"  # sums do not depend on the number of cores or of runs at a time
    research = Research(table, asked.draw)
    jobs = research.missing(rows, seeds, datasets)
    print(f"{len(jobs)} experiments to run", flush=True)
    workers = min(_MOST_WORKERS, len(os.sched_getaffinity(0)))
    start = time.monotonic()
    if jobs:
        research.run(jobs, workers)
        _note(asked.draw, len(jobs), (time.monotonic() - start) / 60)
    results = {dataset: research.current(dataset) for dataset in datasets}
    compared = Compared(table, tuple(rows), tuple(seeds), results, asked.draw)
    print("\n".join([*page.verdicts(compared), "", *page.score_tables(compared)]))
    if asked.draw == 1 and not (asked.rows or asked.seeds or asked.datasets):
        write_page(compared)


def write_page(compared: Compared) -> None:
    """Writes the page, with the stored results on other draws."""
    machine = _machine()
    with atomic_file(OUT) as temporary:
        findings = FINDINGS.read_text(encoding="utf-8")
        temporary.write_text(page.page(compared, _other_draws(compared.table), machine, findings), encoding="utf-8")
    print(f"Written: {OUT}")


def _other_draws(table: ResearchTable) -> list[Compared]:
    """Returns the stored results of the draws other than the demo's, for the rows that all their data sets have."""
    found = []
    draws = {int(path.stem.rpartition("-draw")[2]) for path in FOLDER.glob("*-draw*.parquet")}
    for draw in sorted(draws):
        files = {dataset: read_results(results_file(dataset, draw)) for dataset in table.datasets}
        results = {dataset: each for dataset, each in files.items() if each}
        seeds = sorted({cell.seed for each in results.values() for cell in each})
        rows = [
            row for row in table.rows if all(Cell(row, seed) in each for each in results.values() for seed in seeds)
        ]
        found.append(Compared(table, tuple(rows), tuple(seeds), results, draw))
    return found


def _note(draw: int, experiments: int, minutes: float) -> None:
    """Adds the experiments of this call to those of the earlier ones, since the runs continue after an interruption."""
    known = read_json(TIMES) if TIMES.is_file() else {}
    before = known.get(str(draw), {"experiments": 0, "minutes": 0.0})
    after = {"experiments": before["experiments"] + experiments, "minutes": round(before["minutes"] + minutes, 1)}
    write_json(TIMES, known | {str(draw): after})


def _machine() -> str:
    """Returns the processor and the minutes of the runs; those that the page has if no run was made in this folder."""
    took = (read_json(TIMES) if TIMES.is_file() else {}).get("1")
    known = OUT.read_text(encoding="utf-8").splitlines() if OUT.is_file() and took is None else []
    if found := [line for line in known if line.startswith(_PROCESSOR)]:
        return found[0]
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").is_file() else ""
    names = [line.partition(":")[2].strip() for line in lines.splitlines() if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0))
    time_taken = f"; {took['experiments']} experiments took {took['minutes']:.0f} minutes" if took else ""
    return f"{_PROCESSOR}{names[0] if names else 'unknown'}, {cores} cores{time_taken}."


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo.research", description=__doc__)
    parser.add_argument("--rows", type=_names, help="names of rows, separated by commas; default: all")
    parser.add_argument("--seeds", type=_numbers, help="seeds; default: 1 to 5")
    parser.add_argument("--datasets", type=_names, help="names of data sets; default: all")
    parser.add_argument("--draw", type=_positive, default=1, help="number of the draw of the data sets; default: 1")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _numbers(text: str) -> tuple[int, ...]:
    numbers = tuple(int(part) for part in text.replace(",", " ").split() if part.isdecimal())
    if len(numbers) < len(text.replace(",", " ").split()) or any(number >= _SEEDS_END for number in numbers):
        raise argparse.ArgumentTypeError(f"expected numbers from 0 to {_SEEDS_END - 1}, as in '1 2 3', got '{text}'")
    return tuple(dict.fromkeys(numbers))


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a number from 1, got '{text}'")
    return int(text)


def _rows(table: ResearchTable, asked: Sequence[str] | None, draw: int) -> list[str]:
    trials = [name for name, row in table.rows.items() if row.trial and draw == 1]
    if named := [each for each in asked or () if each in trials]:
        raise InputError(
            f"ROWS: '{named[0]}' is a trial, which is compared only on other draws of the data sets; give DRAW=2 or "
            "another number above 1"
        )
    return _chosen("ROWS", asked, [name for name in table.rows if name not in trials])


def _chosen(name: str, asked: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    if unknown := [each for each in asked or () if each not in known]:
        raise InputError(f"{name}: '{unknown[0]}' is unknown; it is one of {', '.join(known)}")
    return [each for each in known if not asked or each in asked]


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        raise SystemExit(130) from None
