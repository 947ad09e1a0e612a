"""The page docs/demo-models.md: what the small models reached under which conditions."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from statistics import median
from typing import Any

import torch

# How many seeds a full check has.
SEEDS = 8
Runs = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Condition:
    """How a training is run.

    Attributes:
        threads: of torch and its libraries.
        instructions: what the processor is said to have; `as found`: what it has.
        limits: environment variables that keep the libraries to these instructions.
    """

    threads: int
    instructions: str
    limits: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def name(self) -> str:
        """As tables name it."""
        return f"{self.instructions}, {self.threads} thread{'s' if self.threads > 1 else ''}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of such a training."""
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(self.threads))
        return {**threads, **self.limits}


_HEAD = """\
# The demo's small models, by seed and machine

Written by `make demo-models-check`, which trains the small models of the demo again under other conditions:

- seeds: those of `demo/params.yaml` (seed 0 here), and others; the images stay the same;
- threads: 1 and 2 (`OMP_NUM_THREADS`, `MKL_NUM_THREADS`);
- instructions: all that the processor has (`as found`), up to AVX2, and `default`, which has neither AVX nor FMA for
  torch's own kernels (`ATEN_CPU_CAPABILITY`, `ONEDNN_MAX_CPU_ISA`, `MKL_ENABLE_INSTRUCTIONS`). These take the part of
  other processors, whose sums are rounded otherwise.

A run that ends below what is wanted stops nothing: `make demo` says so at its end, and goes on. A captioner is trained
over the CLIP of its own run. Measured are images that no training sees.

Machine: {machine}. Runs: {runs}. Of a full check each model has {full}; a row says how many runs there are, and a
check that is started again goes on with what is missing.

"""
_LIMITS = {
    "as found": {},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "default": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
}
CONDITIONS = tuple(Condition(threads, name, limits) for threads in (1, 2) for name, limits in _LIMITS.items())


@dataclass(frozen=True)
class Figure:
    """A figure that a model is judged by.

    Attributes:
        model: its name in the file of runs and in `demo/params.yaml`.
        title: what is measured.
        names: a pattern of figures in its metrics, of which the lowest counts.
        wanted: its key in `demo/params.yaml`.
    """

    model: str
    title: str
    names: str
    wanted: str

    def of(self, measured: Mapping[str, Any]) -> float:
        """The lowest of the figures."""
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
    """The whole page, of the runs that there are.

    Args:
        runs: by `<what was trained> <seed> <condition>`, each with what was `measured` by model.
        params: `demo/params.yaml`.
    """
    parts = [_HEAD.format(machine=machine(), runs=_count(runs), full=SEEDS * len(CONDITIONS))]
    for figure in FIGURES:
        found = {condition: _values(runs, figure, condition) for condition in CONDITIONS}
        wanted = params[figure.model][figure.wanted]
        parts += [f"## {figure.model}: {figure.title}", "", *table(found, wanted), ""]
    return "\n".join(parts)


def table(found: Mapping[Condition, Mapping[int, float]], wanted: float) -> list[str]:
    """A figure's lines in Markdown: a row a condition, and one for all of them."""
    lines = [
        "| condition | runs | worst | median | best | wanted | every run: seed: value |",
        "|---" + "|---:" * 5 + "|---|",
    ]
    for condition, values in found.items():
        each = ", ".join(f"{seed}: {value:g}" for seed, value in sorted(values.items()))
        lines.append(_row(condition.name, list(values.values()), wanted, each or "not run"))
    every = [value for values in found.values() for value in values.values()]
    below = sum(value < wanted for value in every)
    return [*lines, _row("all", every, wanted, f"{below} of {len(every)} below what is wanted")]


def _row(name: str, values: Sequence[float], wanted: float, last: str) -> str:
    spread = [f"{pick(values):.4g}" for pick in (min, median, max)] if values else ["", "", ""]
    return f"| {' | '.join([name, str(len(values)), *spread, f'{wanted:g}', last])} |"


def _values(runs: Runs, figure: Figure, condition: Condition) -> dict[int, float]:
    """The figure of each run under a condition, by the number of its seed."""
    values = {}
    for key, run in runs.items():
        _, seed, name = key.split(" ", 2)
        if name == condition.name and figure.model in run["measured"]:
            values[int(seed)] = figure.of(run["measured"][figure.model])
    return values


def _count(runs: Runs) -> str:
    """How many trainings of each model there are."""
    models = dict.fromkeys(figure.model for figure in FIGURES)
    counts = {model: sum(model in run["measured"] for run in runs.values()) for model in models}
    return ", ".join(f"{count} of {model}" for model, count in counts.items())


def machine() -> str:
    """The processor, the instructions that torch uses of it, and torch's version."""
    return f"{_processor()}, {torch.backends.cpu.get_cpu_capability()}; torch {torch.__version__}"


def _processor() -> str:
    """The processor's name where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.machine())
