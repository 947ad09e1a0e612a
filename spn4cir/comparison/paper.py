"""Compares a run with the paper's scores, and finds differences that make the two not comparable."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spn4cir.comparison.runs import Run
from spn4cir.errors import InputError
from spn4cir.json_files import parse_json, read_json

_PUBLISHED = "from the published stage-1 checkpoint"
_UNKNOWN = "not recorded"
_FIGURES = Path(__file__).with_name("paper.json")


@dataclass(frozen=True)
class PaperFigure:
    """One score of the paper and of a run, in percent.

    Attributes:
        paper_stage1: score of the paper before stage 2.
        paper: score of the paper after stage 2.
        ours_stage1: score of the run before stage 2; None if the metrics file has none.
        ours: score of the run after stage 2.
    """

    paper_stage1: float
    paper: float
    ours_stage1: float | None
    ours: float

    @property
    def difference(self) -> float:
        """The run's score minus the paper's."""
        return self.ours - self.paper


@dataclass(frozen=True)
class PaperComparison:
    """Scores and protocol of a run and of the paper.

    Attributes:
        source: source of the paper's scores.
        figures: scores of both, by name.
        protocol: the paper's and the run's value of each aspect of the protocol.
        differing: aspects that differ and make the scores not comparable; empty if they are comparable.
        notes: open questions about the paper's scores.
    """

    source: str
    figures: dict[str, PaperFigure]
    protocol: dict[str, tuple[str, str]]
    differing: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """The differing aspects in words."""
        sides = {aspect: self.protocol[aspect] for aspect in self.differing}
        return tuple(f"{aspect}: the paper's {theirs}; ours {ours}" for aspect, (theirs, ours) in sides.items())


def compare_to_paper(run: Run) -> PaperComparison:
    """Compares a run with the paper's scores for its family and data set.

    Raises InputError if the paper has none, or the run lacks a score that the paper has.
    """
    paper = read_json(_FIGURES)
    family = str(run.metrics["protocol"].get("family"))
    layout = _layout(run, paper["data"])
    if family not in paper["results"][layout]:
        raise InputError(
            f"{run.label}: the paper has no scores for family '{family}'; it has scores for "
            f"{', '.join(paper['results'][layout])}; compare two runs instead"
        )
    stages = paper["results"][layout][family]
    before = run.metrics.get("stage1") or {}
    if lacking := sorted(stages["stage2"].keys() - run.scores.keys()):
        raise InputError(f"{run.label}: has no score '{lacking[0]}', which the paper reports; run validate again")
    figures = {
        score: PaperFigure(stages["stage1"][score], value, before.get(score), run.scores[score])
        for score, value in stages["stage2"].items()
    }
    sides = _protocol(run, paper["data"][layout], paper["protocols"][layout][family])
    differing = tuple(aspect for aspect, (theirs, ours) in sides.items() if ours not in (theirs, _UNKNOWN))
    notes = [note for place, note in paper["notes"].items() if place.startswith(f"{layout} {family} ")]
    if not differing and sides["weights"][1] == _UNKNOWN:
        notes.append("it is not recorded which weights were scored: the scores are comparable if they are the paper's")
    return PaperComparison(paper["source"], figures, sides, differing, tuple(notes))


def _layout(run: Run, data: Mapping[str, Any]) -> str:
    """The layout of the run's data, found by the way captions are joined."""
    captions = run.metrics["protocol"].get("captions")
    for layout, facts in data.items():
        if facts["captions"] == captions:
            return str(layout)
    raise InputError(f"{run.label}: the paper reports only {' and '.join(data)}; compare two runs instead")


def _protocol(run: Run, data: Mapping[str, Any], family: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    ours = run.metrics["protocol"]
    counts = run.metrics["counts"]
    return {
        "data": (
            _data(data["name"], data["queries"], data["gallery"]),
            _data(_same_name(data, counts), sum(counts["queries"].values()), counts["gallery"]),
        ),
        "gallery": ("all images of the split files", str(ours.get("gallery"))),
        "reference": (family["reference"], str(ours.get("reference"))),
        "text": (family["text"], str(ours.get("text"))),
        "network's input": (f"{family['size']} px", f"{ours.get('preprocess', {}).get('size')} px"),
        "weights": (_PUBLISHED, _weights(run)),
    }


def _weights(run: Run) -> str:
    """The origin of the run's stage-1 weights, as the pipeline recorded it with them."""
    try:
        origin = parse_json(run.read("/".join(("../../data/checkpoint", *run.place, "source.json"))))
    except (InputError, ValueError):
        return _UNKNOWN
    source = origin.get("source") if isinstance(origin, dict) else None
    found = {"train": "from a stage 1 trained here", "hub": _PUBLISHED}
    return found.get(str(source), _UNKNOWN)  # a local file may differ from the published one


def _same_name(data: Mapping[str, Any], counts: Mapping[str, Any]) -> str:
    """The name of the published data set if the run has its size."""
    same = sum(counts["queries"].values()) == data["queries"] and counts["gallery"] == data["gallery"]
    return str(data["name"]) if same else "another set or split"


def _data(name: str, queries: int, gallery: Mapping[str, int]) -> str:
    return f"{name} ({queries:,} queries; gallery {', '.join(f'{s} {n:,}' for s, n in gallery.items())})"
