"""Captions of images: made by a captioner, and kept as they come.

Each word count has an append-only file in a work folder, to which every batch is added as soon as it is there, so that
a killed run loses at most one batch. A record counts only for the image content and the prompt it was made from.

Batches are cut from the whole job, not from what is still missing, and hold one prompt each: a resumed run gives every
image the same batch mates, and so bit for bit the same captions, as an uninterrupted one. With another batch size the
sums inside the model round differently, and a caption changes where two words are equally likely to within that
rounding; this is why the batch size is no part of `caption_key`.

A captioner may answer nothing about an image, and gives the same answer when it is asked again. Such an answer is kept
as any other.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image

from spn4cir.errors import InputError
from spn4cir.files import disk_errors, tree_hash, value_hash
from spn4cir.images.decoding import open_rgb
from spn4cir.images.reading import content_hash, is_there
from spn4cir.positives.caption_files import check_answered
from spn4cir.progress import progress
from spn4cir.types import CaptionedImage

Record = dict[str, str]

# So many empty answers without a single other one come from a broken model.
_MANY = 100


class Captioner(Protocol):
    """Describes batches of images; `prepare` runs in the background while `generate` works on the batch before."""

    def prepare(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Any:
        """The inputs of `generate` for RGB images and a prompt for each."""

    def generate(self, inputs: Any, max_new_tokens: int) -> list[str]:
        """One caption for each image."""


@dataclass(frozen=True, slots=True)
class _Job:
    image: CaptionedImage
    prompt: str

    def inputs(self) -> str:
        """Hash of what the caption is made from: the file's bytes and the prompt."""
        return value_hash([self.prompt, content_hash(self.image.path)])


def caption_key(
    model: str, revision: str | None, prompt: str, dtype: torch.dtype, quantization: str, max_new_tokens: int
) -> dict[str, object]:
    """What determines a caption besides the image and the word count; its hash names the work folder.

    Args:
        model: a folder, which counts by its content, or a hub name.
        revision: of the hub repository; ignored for a folder.
        prompt: the template, with the fields {noun} and {words}.
        dtype: the number type that `auto` came to.
        quantization: none, 8bit or 4bit.
        max_new_tokens: where a caption is cut.
    """
    is_folder = Path(model).is_dir()
    return {
        "model": {"content": tree_hash(Path(model))} if is_folder else {"hub": model, "revision": revision},
        "prompt": prompt,
        "dtype": str(dtype).removeprefix("torch."),
        "quantization": quantization,
        "max_new_tokens": max_new_tokens,
    }


def make_captions(
    images: Sequence[CaptionedImage],
    words: int,
    prompt: str,
    load: Callable[[], Captioner],
    store: Path,
    batch_size: int,
    max_new_tokens: int,
    workers: int,
) -> list[Record]:
    """A caption for every image, in their order; only those that `store` lacks are made.

    Args:
        images: what to describe; a name that stands there with two nouns gets a caption for each.
        words: the word count that the prompt asks for.
        prompt: the template, with the fields {noun} and {words}.
        load: returns the captioner; called at most once, and only when a caption is missing.
        store: the work folder; captions of all else than `caption_key` says do not belong there.
        batch_size: images in one call of the captioner.
        max_new_tokens: where a caption is cut.
        workers: threads that decode images (0 counts as 1).

    Returns:
        Records `{image_id, caption, image_path}`, as the published files hold them; the caption is empty where the
        captioner answered nothing.

    Raises:
        InputError: an image cannot be decoded, or the first 100 answers are all empty.
    """
    jobs = [_Job(image, prompt.format(noun=image.noun, words=words)) for image in images]
    path = store / f"{words}.jsonl"
    captions = _finished(jobs, _read_store(path), workers)
    empty, answered = captions.count(""), any(captions)
    if missing := captions.count(None):
        batches = _missing_batches(jobs, captions, batch_size)
        made = _make(jobs, batches, load(), path, max_new_tokens, workers)
        new = ((position, caption) for position, caption in made if captions[position] is None)
        for position, caption in progress(new, len(jobs), f"caption {words} words", "images", len(jobs) - missing):
            captions[position] = caption
            answered = answered or bool(caption)
            empty += not caption
            if empty >= _MANY and not answered:
                check_answered(empty, empty)
    return [
        {"image_id": job.image.name, "caption": caption or "", "image_path": str(job.image.path)}
        for job, caption in zip(jobs, captions, strict=True)
    ]


def _finished(jobs: list[_Job], stored: dict[tuple[str, str], str], workers: int) -> list[str | None]:
    """The caption of each job, None where none was made from the same image and prompt."""
    names = {name for name, _ in stored}

    def lookup(job: _Job) -> str | None:
        if job.image.name not in names or not is_there(job.image.path):
            return None  # decoding an absent file says best what is wrong
        return stored.get((job.image.name, job.inputs()))

    with ThreadPoolExecutor(max(workers, 1)) as pool:
        return list(pool.map(lookup, jobs))


def _missing_batches(jobs: list[_Job], captions: list[str | None], batch_size: int) -> list[list[int]]:
    """Positions of the jobs, cut into batches of one prompt each; those in which no caption is missing left out."""
    positions: dict[str, list[int]] = {}
    for position, job in enumerate(jobs):
        positions.setdefault(job.prompt, []).append(position)
    batches = [same[i : i + batch_size] for same in positions.values() for i in range(0, len(same), batch_size)]
    return [batch for batch in batches if any(captions[position] is None for position in batch)]


def _make(
    jobs: list[_Job], batches: list[list[int]], captioner: Captioner, path: Path, max_new_tokens: int, workers: int
) -> Iterator[tuple[int, str]]:
    """Positions with their captions, batch after batch; a batch is on disk before its first one is given out."""
    for batch, hashes, inputs in _prepared(jobs, batches, captioner, workers):
        captions = [caption.strip() for caption in captioner.generate(inputs, max_new_tokens)]
        records = []
        for position, made_from, caption in zip(batch, hashes, captions, strict=True):
            records.append({"image_id": jobs[position].image.name, "inputs": made_from, "caption": caption})
        _append(path, records)
        yield from zip(batch, captions, strict=True)


def _prepared(
    jobs: list[_Job], batches: list[list[int]], captioner: Captioner, workers: int
) -> Iterator[tuple[list[int], list[str], Any]]:
    """Each batch with the hash of every job and the captioner's inputs, made one batch ahead in the background."""

    def decode(position: int) -> tuple[Image.Image, str]:
        return open_rgb(jobs[position].image.path), jobs[position].inputs()

    def prepare(batch: list[int]) -> tuple[list[int], list[str], Any]:
        images, hashes = zip(*decoders.map(decode, batch), strict=True)
        return batch, list(hashes), captioner.prepare(images, [jobs[position].prompt for position in batch])

    with ThreadPoolExecutor(max(workers, 1)) as decoders, ThreadPoolExecutor(1) as ahead:
        waiting = ahead.submit(prepare, batches[0])
        for batch in batches[1:]:
            ready, waiting = waiting.result(), ahead.submit(prepare, batch)
            yield ready
        yield waiting.result()


def _read_store(path: Path) -> dict[tuple[str, str], str]:
    """Captions by image name and hash of what they were made from; a last line torn by a kill is cut off the file."""
    if not path.exists():
        return {}
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
    stored = {}
    for number, line in enumerate(content[:whole].splitlines(), start=1):
        try:
            record = json.loads(line)
            stored[record["image_id"], record["inputs"]] = str(record["caption"])
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"{path}: line {number} is damaged; delete the file, its captions are made again"
            ) from None
    return stored


def _append(path: Path, records: list[Record]) -> None:
    """Adds the records and returns when they are on disk."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as stream:
            stream.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
            stream.flush()
            os.fsync(stream.fileno())
