"""Accuracy of a captioner on drawn images, with the questions of the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from demo.draw.attributes import Thing, attributes
from demo.draw.captions import WORD_COUNTS, attributes_of, mentioned, nouns, prompt
from demo.draw.images import KINDS, held_out
from demo.settings import ImagesSettings
from spn4cir.positives.llava import LlavaCaptioner, load_captioner

BATCH = 125
MAX_NEW_TOKENS = 16


def measure_captioner(folder: Path, settings: ImagesSettings) -> dict[str, Any]:
    """Measures the captioner in `folder` on the held-out images, as `describes` does."""
    captioner = load_captioner(str(folder), None, torch.float32, torch.device("cpu"), "none")
    return describes(captioner, [held_out(kind, settings) for kind in KINDS])


def describes(
    captioner: LlavaCaptioner, kinds: Sequence[tuple[Sequence[Thing], Sequence[Image.Image]]]
) -> dict[str, Any]:
    """Measures how often a captioner names each attribute correctly.

    Args:
        captioner: the captioner to ask.
        kinds: for each kind, the things and their images.

    Returns:
        `accuracy`: percentage by `<kind>.<attribute>`, over the captions whose word count names the attribute;
        `mean` and `min` of these; `worst`: the attribute of `min`; `images`: their number.
    """
    accuracy: dict[str, float] = {}
    for things, images in kinds:
        # One question an image; the word counts take turns.
        counts = [WORD_COUNTS[number % len(WORD_COUNTS)] for number in range(len(things))]
        asked = [nouns(thing)[number // len(WORD_COUNTS) % len(nouns(thing))] for number, thing in enumerate(things)]
        questions = [prompt(noun, words) for noun, words in zip(asked, counts, strict=True)]
        answers = _answers(captioner, images, questions)
        for name, right in grade(things, counts, answers).items():
            accuracy[f"{type(things[0]).__name__.lower()}.{name}"] = round(100 * sum(right) / max(len(right), 1), 2)
    worst = min(accuracy, key=lambda name: accuracy[name])
    mean = round(sum(accuracy.values()) / len(accuracy), 2)
    count = sum(len(things) for things, _ in kinds)
    return {"mean": mean, "min": accuracy[worst], "worst": worst, "images": count, "accuracy": accuracy}


def _answers(captioner: LlavaCaptioner, images: Sequence[Any], questions: Sequence[str]) -> list[str]:
    answers: list[str] = []
    for start in range(0, len(images), BATCH):
        inputs = captioner.prepare(images[start : start + BATCH], questions[start : start + BATCH])
        answers += captioner.generate(inputs, MAX_NEW_TOKENS)
    return answers


def grade(things: Sequence[Thing], words: Sequence[int], answers: Sequence[str]) -> dict[str, list[bool]]:
    """Returns by attribute whether each answer that should name it names it correctly."""
    right: dict[str, list[bool]] = {name: [] for name in things[0].VALUES}
    for thing, count, answer in zip(things, words, answers, strict=True):
        named, true = attributes_of(answer, type(thing)), attributes(thing)
        for name in mentioned(type(thing), count):
            right[name].append(named.get(name) == true[name])
    return right
