"""The page docs/demo-models.md: the figures of the small models by seed and condition."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from statistics import median
from typing import Any

import torch

# Number of seeds of a full check.
SEEDS = 8
Runs = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Condition:
    """Threads and processor instructions of a training.

    Attributes:
        threads: number of threads of torch and its libraries.
        instructions: name of the instructions; `as found` for all that the processor has.
        limits: environment variables that limit the libraries to these instructions.
    """

    threads: int
    instructions: str
    limits: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def name(self) -> str:
        """Name in the tables and in the file of runs."""
        return f"{self.instructions}, {self.threads} thread{'s' if self.threads > 1 else ''}"

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables of the training."""
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(self.threads))
        return {**threads, **self.limits}


_HEAD = """\
# The demo's small models, by seed and machine

`make demo-models-check` writes this page. It trains the small models of the demo again under several conditions:

- seeds: those of `demo/params.yaml` (seed 0 here), and others; the images stay the same;
- threads: 1 and 2 (`OMP_NUM_THREADS`, `MKL_NUM_THREADS`);
- instructions: all that the processor has (`as found`), up to AVX2, and `default`, without AVX and FMA in torch's own
  kernels (`ATEN_CPU_CAPABILITY`, `ONEDNN_MAX_CPU_ISA`, `MKL_ENABLE_INSTRUCTIONS`). They simulate other processors,
  which round sums differently.

A model below the wanted figure does not stop `make demo`, which reports it at the end. A captioner is trained with the
CLIP of its own run. The figures are measured on images that no training uses.

Machine: {machine}. Runs: {runs}. A full check has {full} runs of each model. Each row states its number of runs; a
check that is started again trains the missing ones.
"""
_LIMITS = {
    "as found": {},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "default": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
}
CONDITIONS = tuple(Condition(threads, name, limits) for threads in (1, 2) for name, limits in _LIMITS.items())


@dataclass(frozen=True)
class Figure:
    """A figure of a model that has a wanted value.

    Attributes:
        model: name of the model in the file of runs and in `demo/params.yaml`.
        title: description of the figure.
        names: pattern of figures in the metrics of the model; the lowest one counts.
        wanted: key of the wanted value in `demo/params.yaml`.
    """

    model: str
    title: str
    names: str
    wanted: str

    def of(self, measured: Mapping[str, Any]) -> float:
        """Returns the lowest of the figures in the measurements of the model."""
        return float(min(value for name, value in measured.items() if fnmatch(name, self.names)))


FIGURES = (
    Figure("captioner", "accuracy on the worst attribute, percent", "min", "wanted_attribute_accuracy"),
    Figure("captioner", "mean accuracy, percent", "mean", "wanted_mean_accuracy"),
    Figure("clip", "R@1 of an image's caption among 100, percent, worse kind", "*_recall_at1", "wanted_recall"),
    Figure("encoder", "attributes shared with near images, times chance, worse kind", "*_gain", "wanted_gain"),
    Figure(
        "blip", "R@1 among 500, percent, worst of captions and changes of both kinds", "*_recall_at1", "wanted_recall"
    ),
    Figure(
        "blip2", "R@1 among 500, percent, worst of captions and changes of both kinds", "*_recall_at1", "wanted_recall"
    ),
)


def page(runs: Runs, params: Mapping[str, Any]) -> str:
    """Returns the page for the finished runs.

    Args:
        runs: the finished runs by `<model> <seed> <condition>`; each has its `machine`, and its
            measurements by model as `measured`.
        params: the content of `demo/params.yaml`.
    """
    trained_on = " and ".join(sorted({run["machine"] for run in runs.values()})) or machine()
    parts = [_HEAD.format(machine=trained_on, runs=_count(runs), full=SEEDS * len(CONDITIONS))]
    for figure in FIGURES:
        found = {condition: _values(runs, figure, condition) for condition in CONDITIONS}
        wanted = params[figure.model][figure.wanted]
        parts += [f"## {figure.model}: {figure.title}", "", *table(found, wanted), ""]
    return "\n".join(parts)


def table(found: Mapping[Condition, Mapping[int, float]], wanted: float) -> list[str]:
    """Returns the table of a figure in Markdown: a row for each condition, and one for all."""
    lines = [
        "| condition | runs | worst | median | best | wanted | every run: seed: value |",
        "|---" + "|---:" * 5 + "|---|",
    ]
    for condition, values in found.items():
        each = ", ".join(f"{seed}: {value:g}" for seed, value in sorted(values.items()))
        lines.append(_row(condition.name, list(values.values()), wanted, each or "not run"))
    every = [value for values in found.values() for value in values.values()]
    below = sum(value < wanted for value in every)
    return [*lines, _row("all", every, wanted, f"{below} of {len(every)} below the wanted value")]


def _row(name: str, values: Sequence[float], wanted: float, last: str) -> str:
    spread = [f"{pick(values):.4g}" for pick in (min, median, max)] if values else ["", "", ""]
    return f"| {' | '.join([name, str(len(values)), *spread, f'{wanted:g}', last])} |"


def _values(runs: Runs, figure: Figure, condition: Condition) -> dict[int, float]:
    """Returns the figure of each run under a condition, by the number of its seed."""
    values = {}
    for key, run in runs.items():
        _, seed, name = key.split(" ", 2)
        if name == condition.name and figure.model in run["measured"]:
            values[int(seed)] = figure.of(run["measured"][figure.model])
    return values


def _count(runs: Runs) -> str:
    """Returns a phrase with the number of finished trainings of each model."""
    models = dict.fromkeys(figure.model for figure in FIGURES)
    counts = {model: sum(model in run["measured"] for run in runs.values()) for model in models}
    return ", ".join(f"{count} of {model}" for model, count in counts.items())


def machine() -> str:
    """Returns the processor, its instructions that torch uses, and the version of torch."""
    return f"{_processor()}, {torch.backends.cpu.get_cpu_capability()}; torch {torch.__version__}"


def _processor() -> str:
    """Returns the name of the processor if Linux reports it, otherwise its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.machine())
