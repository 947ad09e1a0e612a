"""Captions of images: made by a captioner, kept as they come, read and written in the published form.

Each word count has an append-only file in a work folder, to which every batch is added as soon as it is there, so that
a killed run loses at most one batch. A record counts only for the image content and the prompt it was made from.

Batches are cut from the whole job, not from what is still missing, and hold one prompt each: a resumed run gives every
image the same batch mates, and so bit for bit the same captions, as an uninterrupted one. With another batch size the
sums inside the model round differently, and a caption changes where two words are equally likely to within that
rounding; this is why the batch size is no part of `caption_key`.

A captioner may answer nothing about an image, and gives the same answer when it is asked again. Such an answer is kept
as any other and written as an empty caption: the original code looks up every image and stops where a record is
absent. No triplet is written from an empty caption.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image

from spn4cir.decoding import open_rgb
from spn4cir.errors import InputError, some_names
from spn4cir.files import disk_errors, read_json, tree_hash, value_hash, write_json
from spn4cir.members import content_hash, is_there
from spn4cir.progress import progress
from spn4cir.types import CaptionedImage

Record = dict[str, str]

# So many empty answers without a single other one come from a broken model.
_BROKEN = 100
_SHOWN = 3


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
            if empty >= _BROKEN and not answered:
                raise _answers_nothing(empty)
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


def read_captions(path: Path) -> dict[str, str]:
    """Captions by image name, from a published file or one of ours; other keys and the image paths are ignored.

    Of an image that the file holds twice the last caption counts, as in the original code: FashionIQ's split files
    share 1,180 names between shirt and toptee, and the published captions hold each under both. A blank caption is the
    empty string, and counts only where the file has no other one of the image.

    Raises InputError that names the record which lacks a field.
    """
    records = read_json(path)
    if not isinstance(records, list):
        raise InputError(f"{path}: holds a {type(records).__name__}, expected a list of {{image_id, caption}}")
    captions: dict[str, str] = {}
    for position, record in enumerate(records):
        name, caption = (record.get(field) if isinstance(record, dict) else None for field in ("image_id", "caption"))
        if not isinstance(name, str) or not name.strip() or not isinstance(caption, str):
            field = "caption" if isinstance(name, str) and name.strip() else "image_id"
            raise InputError(
                f"{path}: record {position} has no {field} (got {str(record)[:80]}); "
                "write the file again with caption.<dataset>.source: make, or mend the record"
            )
        captions[name] = caption.strip() or captions.get(name, "")
    return captions


def write_captions(records: Sequence[Record], path: Path) -> None:
    """Writes `make_captions`' records in the published form, whole or not at all."""
    write_json(path, list(records))


def count_empty(captions: Mapping[str, str], file: str) -> int:
    """How many images have an empty caption; they are counted and the first named on stderr.

    Args:
        captions: by image name, as `read_captions` returns them.
        file: the name of their file, for the message.
    """
    empty = [name for name, caption in captions.items() if not caption]
    if empty:
        print(
            f"{file}: {len(empty)} of {len(captions)} images have an empty caption ({some_names(empty, _SHOWN)}); "
            "no triplet is made of them",
            file=sys.stderr,
        )
    return len(empty)


def check_answered(captions: int, empty: int) -> None:
    """Raises InputError when all captions of a data set are empty.

    Args:
        captions: how many there are.
        empty: how many of them are empty.
    """
    if captions and captions == empty:
        raise _answers_nothing(empty)


def _answers_nothing(empty: int) -> InputError:
    return InputError(
        f"caption: {empty} of {empty} captions are empty; check the model (models.<dataset>.captioner), its number "
        "type (caption.<dataset>.dtype) and the prompt (caption.<dataset>.prompt), or the published file"
    )
