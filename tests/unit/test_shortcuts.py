"""Shortcuts on a case whose ranks are known: image i is the i-th axis, and a text names the axis it asks for."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from spn4cir.composers.encoding import EncodedGallery
from spn4cir.config.params import Validate
from spn4cir.datasets.cirr import Cirr
from spn4cir.errors import InputError
from spn4cir.evaluation.evaluate import evaluate
from spn4cir.evaluation.hard_negatives import Nearest
from spn4cir.evaluation.shortcuts import AS_WRITTEN, Probe, measure_shortcuts, wordings_of
from spn4cir.types import EvaluationSplit, Gallery, Triplet
from tests.conftest import CPU
from tests.helpers.stub import StubComposer

IMAGES = 12
PROTOCOL = Validate(remove_reference=True, capitalise=False, batch_size=4, sheet_queries=1)


def probe(templates: tuple[str, ...], path: Path | None = None) -> Probe:
    return Probe(Nearest(2, 2), templates, path)


TEMPLATES = probe(("now {text}", "{text}"))


def gallery() -> Gallery:
    names = tuple(f"i{number:02d}" for number in range(IMAGES))
    return Gallery(names, tuple(Path(name) for name in names))


def split(queries: int = 4) -> EvaluationSplit:
    """The target of image i is image i + 1, which its text names."""
    names = gallery().names
    triplets = tuple(
        Triplet(names[i], (f"to {i + 1}",), names[i + 1], i, subset_names=names[i : i + 3]) for i in range(queries)
    )
    return EvaluationSplit("val", triplets, gallery(), {})


def measured(tmp_path: Path, asked: Probe, **texts: int) -> dict[str, Any]:
    """Results if the network knows the texts as written, and `texts` as well (`_` for a space)."""
    axes = torch.eye(IMAGES)
    known = {f"to {i}": i for i in range(IMAGES)} | {text.replace("_", " "): i for text, i in texts.items()}
    composer = StubComposer({text: 2 * axes[i] for text, i in known.items()})
    layout, splits = Cirr(tmp_path, "error"), [split()]
    images = EncodedGallery(gallery(), axes, axes, torch.arange(IMAGES))
    evaluation = evaluate(composer, layout, splits, images, PROTOCOL, CPU)
    wordings = wordings_of(splits, PROTOCOL.capitalise, asked)
    return measure_shortcuts(composer, layout, evaluation, images, PROTOCOL, wordings, asked.nearest, CPU).scores


def test_a_benchmark_that_the_text_solves(tmp_path: Path) -> None:
    """The text alone finds every target; the reference alone ties with all others, and so finds none."""
    found = measured(tmp_path, probe(()))
    assert list(found) == ["reference_alone", "text_alone", "hard_negatives"]
    assert (found["text_alone"]["recall_at1"], found["reference_alone"]["recall_at1"]) == (100.0, 0.0)
    assert found["reference_alone"]["recall_at10"] == 0.0  # 11 candidates tie


def test_spread_and_movement_over_paraphrases(tmp_path: Path) -> None:
    """ "now to 1" is known; the other three are not and leave only the reference: rank 10 instead of 0."""
    found = measured(tmp_path, TEMPLATES, now_to_1=1)["paraphrases"]
    assert [scores["recall_at1"] for scores in found["sets"].values()] == [100.0, 25.0, 100.0]
    assert list(found["sets"]) == [AS_WRITTEN, "now {text}", "{text}"]
    assert found["spread"]["recall_at1"] == pytest.approx(
        {"mean": 75.0, "min": 25.0, "max": 100.0, "deviation": (2 * 25**2 / 3 + 50**2 / 3) ** 0.5}
    )
    assert found["rank_apart"] == {"median": 10.0, "mean": 7.5, "largest": 10.0}
    json.dumps(found)


def test_paraphrases_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Case is ignored and lists have any length; a query without the n-th paraphrase keeps its text."""
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"To 1": ["one", "the first"], "to 2": ["two"], "unasked": ["x", "y", "z"]}))
    wordings = wordings_of([split()], False, probe(("please {text}",), path))
    assert wordings["please {text}"] == (("please to 1", "please to 2", "please to 3", "please to 4"),)
    assert wordings["paraphrase 1"] == (("one", "two", "to 3", "to 4"),)
    assert wordings["paraphrase 2"] == (("the first", "to 2", "to 3", "to 4"),)
    assert len(wordings) == 3
    assert "paraphrases of 2 of 4 queries" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "no such file"),
        (["is red"], "expected a JSON object of lists of texts"),
        ({"to 1": "one"}, "expected a JSON object of lists of texts"),
        ({"to 1": ["one", " "]}, "expected a JSON object of lists of texts"),
        ({"is red": ["make it red"]}, "contains none of the queries' texts; write keys such as 'to 1'"),
        ({}, "contains none of the queries' texts"),
    ],
)
def test_a_file_of_another_form(tmp_path: Path, content: Any, problem: str) -> None:
    path = tmp_path / "p.json"
    if content is not None:
        path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=problem) as raised:
        wordings_of([split()], False, probe((), path))
    assert str(raised.value).startswith(str(path))
