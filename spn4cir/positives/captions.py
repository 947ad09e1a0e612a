"""Makes captions of images with a captioner, and stores each batch when it is finished.

Each word count has an append-only file in a work folder. Every batch is appended when it is finished, so that a killed
run loses at most one batch. A record is used only for the image content and the prompt from which it was made.

Batches are cut from the whole job, not from the missing captions, and contain one prompt each. A resumed run therefore
has the same batches as an uninterrupted one, and makes the same captions bit for bit. With another batch size, sums in
the model round differently, and a caption changes only where two words are equally likely up to rounding; for this
reason `caption_key` does not include the batch size.

A captioner may return an empty caption, and returns it again for the same image. Empty captions are stored like others.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image

from spn4cir.files import tree_hash, value_hash
from spn4cir.images.decoding import open_rgb
from spn4cir.images.processes import default_workers
from spn4cir.images.reading import content_hash, is_there
from spn4cir.images.workers import Cluster, ImageBatch, Workers
from spn4cir.positives.caption_files import caption_record, check_answered
from spn4cir.positives.caption_store import CaptionStore, StoredCaptions
from spn4cir.progress import progress
from spn4cir.types import CaptionedImage

Record = dict[str, str]

# If this many first answers are all empty, the model is broken.
_MANY = 100


class Captioner(Protocol):
    """Describes batches of images; `prepare` runs in the background while `generate` works on the previous batch."""

    def prepare(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Any:
        """Returns the inputs of `generate` for RGB images and a prompt for each."""

    def generate(self, inputs: Any, max_new_tokens: int) -> list[str]:
        """Returns one caption for each image."""


@dataclass(frozen=True, slots=True)
class _Job:
    image: CaptionedImage
    prompt: str

    def inputs(self) -> str:
        """Returns a hash of the inputs of the caption: the file's bytes and the prompt."""
        return _inputs_hash(self.image.path, self.prompt)


@dataclass(frozen=True, slots=True)
class _Captioned:
    """The captions of a batch, by the positions of its jobs.

    Attributes:
        batch: the positions.
        hashes: hashes of the inputs.
        captions: the captions, as the captioner returns them.
    """

    batch: list[int]
    hashes: list[str]
    captions: list[str]


def caption_key(
    model: str, revision: str | None, prompt: str, dtype: torch.dtype, quantization: str, max_new_tokens: int
) -> dict[str, object]:
    """Returns the settings that determine a caption besides the image and the word count.

    The hash of the returned dict is the name of the work folder.

    Args:
        model: a folder, which is identified by its content, or a hub name.
        revision: revision of the hub repository; ignored for a folder.
        prompt: the template, with the fields {noun} and {words}.
        dtype: number type of the model, after `auto` is resolved.
        quantization: none, 8bit or 4bit.
        max_new_tokens: maximum number of tokens of a caption.
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
    store: CaptionStore,
    batch_size: int,
    max_new_tokens: int,
    workers: Workers,
) -> list[Record]:
    """Returns a caption for every image, in order, and makes those that are not in `store`.

    Args:
        images: the images; a name that occurs with two nouns gets a caption for each.
        words: number of words in the prompt.
        prompt: the template, with the fields {noun} and {words}.
        load: returns the captioner; called only if a caption is missing, at most once, or once on each worker of a
            cluster.
        store: the captions that are known, and their work folder; all must have one `caption_key`.
        batch_size: images per call of the captioner.
        max_new_tokens: maximum number of tokens of a caption.
        workers: threads that decode images (0 means 1), or a cluster.

    Returns:
        Records `{image_id, caption, image_path}`, in the form of the published files; the caption is empty if the
        captioner returned nothing.

    Raises:
        InputError: an image cannot be decoded, or the first 100 answers are all empty.
    """
    jobs = [_Job(image, prompt.format(noun=image.noun, words=words)) for image in images]
    known = store.of(words)
    captions = _finished(jobs, known, workers if isinstance(workers, int) else default_workers())
    empty, answered = captions.count(""), any(captions)
    if missing := captions.count(None):
        batches = _missing_batches(jobs, captions, batch_size)
        if isinstance(workers, int):
            ready = _caption_here(jobs, batches, load(), max_new_tokens, workers)
        else:
            ready = _caption_there(jobs, batches, load, max_new_tokens, workers)
        made = _store(jobs, ready, known)
        new = ((position, caption) for position, caption in made if captions[position] is None)
        for position, caption in progress(new, len(jobs), f"caption {words} words", "images", len(jobs) - missing):
            captions[position] = caption
            answered = answered or bool(caption)
            empty += not caption
            if empty >= _MANY and not answered:
                check_answered(empty, empty)
    return [caption_record(job.image, caption or "") for job, caption in zip(jobs, captions, strict=True)]


def _finished(jobs: list[_Job], known: StoredCaptions, workers: int) -> list[str | None]:
    """Returns the stored caption of each job, or None if none was made from the same image and prompt."""

    def lookup(job: _Job) -> str | None:
        if not known.has(job.image.name) or not is_there(job.image.path):
            return None  # decoding the absent file raises the error that names it
        return known.get(job.image.name, job.inputs())

    with ThreadPoolExecutor(max(workers, 1)) as pool:
        return list(pool.map(lookup, jobs))


def _missing_batches(jobs: list[_Job], captions: list[str | None], batch_size: int) -> list[list[int]]:
    """Returns batches of job positions, each with one prompt, without the batches in which no caption is missing."""
    positions: dict[str, list[int]] = {}
    for position, job in enumerate(jobs):
        positions.setdefault(job.prompt, []).append(position)
    batches = [same[i : i + batch_size] for same in positions.values() for i in range(0, len(same), batch_size)]
    return [batch for batch in batches if any(captions[position] is None for position in batch)]


def _store(jobs: list[_Job], ready: Iterator[_Captioned], known: StoredCaptions) -> Iterator[tuple[int, str]]:
    """Yields positions with their captions; a batch is written to disk before its first caption is yielded."""
    for each in ready:
        captions = [caption.strip() for caption in each.captions]
        records = []
        for position, made_from, caption in zip(each.batch, each.hashes, captions, strict=True):
            records.append({"image_id": jobs[position].image.name, "inputs": made_from, "caption": caption})
        known.add(records)
        yield from zip(each.batch, captions, strict=True)


def _caption_here(
    jobs: list[_Job], batches: list[list[int]], captioner: Captioner, max_new_tokens: int, workers: int
) -> Iterator[_Captioned]:
    """Yields the captions of each batch, made by this process."""
    for batch, hashes, inputs in _prepared(jobs, batches, captioner, workers):
        yield _Captioned(batch, hashes, captioner.generate(inputs, max_new_tokens))


def _caption_there(
    jobs: list[_Job],
    batches: list[list[int]],
    load: Callable[[], Captioner],
    max_new_tokens: int,
    cluster: Cluster,
) -> Iterator[_Captioned]:
    """Yields the captions of each batch, made by the workers of a cluster."""
    sent = [
        ImageBatch(
            tuple(jobs[position].image.path for position in batch), [jobs[position].prompt for position in batch]
        )
        for batch in batches
    ]
    made = cluster.map_batches(_read, partial(_generate, load, max_new_tokens), sent, "caption")
    for batch, (hashes, captions) in zip(batches, made, strict=True):
        yield _Captioned(batch, hashes, captions)


_Read = tuple[list[Image.Image], list[str], list[str]]


def _read(batch: ImageBatch) -> _Read:
    """Returns the images, the prompts and the hashes of the inputs."""
    hashes = [_inputs_hash(path, prompt) for path, prompt in zip(batch.paths, batch.rest, strict=True)]
    return [open_rgb(path) for path in batch.paths], batch.rest, hashes


def _generate(
    load: Callable[[], Captioner], max_new_tokens: int, _device: torch.device
) -> Callable[[_Read], tuple[list[str], list[str]]]:
    """Returns the function that captions images, on a worker of a cluster."""
    captioner = load()

    def generate(read: _Read) -> tuple[list[str], list[str]]:
        images, prompts, hashes = read
        return hashes, captioner.generate(captioner.prepare(images, prompts), max_new_tokens)

    return generate


def _inputs_hash(path: Path, prompt: str) -> str:
    return value_hash([prompt, content_hash(path)])


def _prepared(
    jobs: list[_Job], batches: list[list[int]], captioner: Captioner, workers: int
) -> Iterator[tuple[list[int], list[str], Any]]:
    """Yields each batch with its hashes and the captioner's inputs, prepared one batch ahead in the background."""

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
