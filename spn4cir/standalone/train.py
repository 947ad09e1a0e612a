"""Training of both stages from Python, on a list of triplets, without a project and without DVC."""

import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from spn4cir.checkpoints.open import Opened, open_checkpoint
from spn4cir.checkpoints.pretrained import EXAMPLE
from spn4cir.checkpoints.published import load_composer
from spn4cir.composers.encoding import EncodedGallery
from spn4cir.composers.protocol import Composer
from spn4cir.config.training import Optimisation
from spn4cir.device import choose_device
from spn4cir.errors import InputError
from spn4cir.files import atomic_folder, check_replaceable
from spn4cir.images.processes import default_workers
from spn4cir.json_files import write_json
from spn4cir.positives.dedup import deduplicate
from spn4cir.search.retriever import Retriever
from spn4cir.standalone.given_triplets import Example, GivenTriplets, StrPath, read_triplets
from spn4cir.standalone.settings import Pair, TrainingSettings, training_settings
from spn4cir.training.bank import build_bank, open_bank
from spn4cir.training.batches import Source
from spn4cir.training.setup import TrainingSetup, no_images
from spn4cir.training.stage1 import train_stage1
from spn4cir.training.stage2 import train_stage2
from spn4cir.training.trainer import BEST, LAST, History, Score, Trainer
from spn4cir.types import UniqueImages

STAGE1, RECORD = "stage1.pt", "training.json"
_OURS = (STAGE1, BEST, LAST, RECORD)


def train(
    triplets: Iterable[Example],
    images: StrPath,
    base: StrPath = EXAMPLE,
    *,
    out: StrPath,
    val: Iterable[Example] = (),
    epochs: Pair = None,
    batch_size: Pair = None,
    lr: Pair = None,
    tau: Pair = None,
    chunk: Pair = None,
    seed: int = 42,
    device: str = "auto",
    workers: int | None = None,
) -> Retriever:
    """Trains a network on triplets, in both stages: with the negatives of the batch, then with those of the bank.

    The bank contains the images that training triplets name, without duplicates. The pairs `epochs`, `batch_size`,
    `lr`, `tau` and `chunk` are values of stage 1 and of stage 2. By default they, and all other settings, are the
    published ones of the family for FashionIQ; for `clip` these are 100 and 3 epochs, batches of 128 and 256 (at most
    the number of triplets), learning rates of 2e-6 and 2e-5, and temperatures of 0.01 and 0.02.

    Args:
        triplets: (reference, target, text), or mappings with these keys and optionally `split` (train or val) and
            `group`, as a row of an annotation table has. Images are named by their paths relative to `images`.
        images: the folder of the images.
        base: a pretrained CLIP with quick GELU by its name, or a stage-1 checkpoint of any family.
        out: folder for the checkpoints; written whole or not at all, and replaced if it exists.
        val: triplets that choose the best epoch of each stage, ranked against all images of the folder. Without them,
            the last epoch is taken.
        epochs: numbers of epochs; a stage with 0 epochs is left out.
        batch_size: triplets in a step; the last incomplete batch of an epoch is left out.
        lr: learning rates.
        tau: temperatures.
        chunk: images, and queries, that a step computes at once, to save memory; None in a pair: all of the batch.
        seed: decides the order of the triplets and the texts.
        device: `auto`, `cpu`, `cuda` or `cuda:0`.
        workers: number of processes that decode images; None: one a core, at most eight.

    Returns:
        A retriever without a gallery, with the weights of `out`: `best.pt`, or without stage 2 `stage1.pt`.

    Raises:
        InputError: a triplet, an image, a setting or the base network is not usable, the folder `out` contains other
            files, or the loss is not finite.

    Examples:
        >>> retriever = train([("a.png", "b.png", "is red"), ("b.png", "a.png", "is blue")], "images", out="trained")
        >>> hits = retriever.index("images").search("a.png", "is red")
    """
    if workers is not None and workers < 0:
        raise InputError(f"workers is {workers}; give 0 or more, or None for one a core, at most eight")
    if not isinstance(seed, int):
        raise InputError(f"seed is {seed!r}; give a whole number")
    place = Path(out).absolute()
    check_replaceable(place, _OURS, "output of a training")
    layout = read_triplets(Path(images), triplets, val)
    opened = _open_base(base)
    pairs = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "tau": tau, "chunk": chunk}
    settings = training_settings(opened.checkpoint.family, len(layout.training_triplets()), pairs)
    found = default_workers() if workers is None else workers
    run = _Training(layout, settings, opened, seed, choose_device(device), found)
    with atomic_folder(place) as folder:
        histories = run.fit(folder)
        shutil.rmtree(folder / "work")
        write_json(folder / RECORD, {"base": str(base), "images": str(images), **run.record(), **histories}, indent=2)
    weights = place / (STAGE1 if settings.stage2 is None else BEST)
    return Retriever.from_checkpoint(
        weights,
        opened.checkpoint.family,
        vision_head_width=opened.options.vision_head_width,
        text_head_width=opened.options.text_head_width,
        device=device,
        workers=workers,
    )


def _open_base(base: StrPath) -> Opened:
    opened = open_checkpoint(Path(base))
    if opened.checkpoint.stage != 1:
        raise InputError(
            f"{base}: is a stage-2 checkpoint, expected stage 1; name a stage-1 file, or a pretrained network as in "
            f"{EXAMPLE}"
        )
    return opened


@dataclass(frozen=True)
class UnvalidatedSetup(TrainingSetup):
    """A setup without validation: nothing is scored, and the weights of the last epoch are kept."""

    def encode(self, composer: Composer) -> EncodedGallery:
        """Returns no features, because there are no queries."""
        del composer
        return no_images()

    def fit(self, composer: Composer, source: Source, settings: Optimisation, stage: int, score: Score) -> History:
        """Trains the network to the last epoch."""
        del score
        return Trainer(composer, source, settings, stage, None, "", self.work, self.device, self.watch).fit()


@dataclass(frozen=True)
class _Training:
    """A training run.

    Attributes:
        layout: the triplets and their images.
        settings: settings of both stages.
        opened: the base network.
        seed: decides the order and the texts.
        device: where the network is trained.
        workers: processes that decode images.
    """

    layout: GivenTriplets
    settings: TrainingSettings
    opened: Opened
    seed: int
    device: torch.device
    workers: int

    @property
    def _validated(self) -> bool:
        return any(row.split == "val" for _, row in self.layout.given)

    def fit(self, folder: Path) -> dict[str, Any]:
        """Trains, and writes the weights to the folder; returns losses and scores of each stage."""
        if not self._validated:
            print("train: there are no validation triplets (val): the last epoch is taken", flush=True)
        unique = deduplicate(self.layout.training_gallery(), self.workers)
        composer, histories = self.opened.composer, {}
        if self.settings.stage1 is not None:
            setup = self._setup(folder / "work" / "stage1")
            history = train_stage1(composer, unique, self.settings.stage1, setup, folder / STAGE1)
            histories["stage1"] = asdict(history)
            composer = load_composer(folder / STAGE1, composer.family, self.opened.options)
        if self.settings.stage2 is not None:
            histories["stage2"] = asdict(self._fit_stage2(composer.to(self.device), unique, folder))
        return {"history": histories}

    def _fit_stage2(self, composer: Composer, unique: UniqueImages, folder: Path) -> History:
        assert self.settings.stage2 is not None
        place, work = folder / "work" / "bank", folder / "work" / "unfinished"
        work.mkdir(parents=True)
        build_bank(composer, unique, self.settings.bank, place, work, self.workers, self.device)
        bank = open_bank(place, composer, unique, self.settings.bank)
        return train_stage2(composer, bank, self.settings.stage2, self._setup(folder / "work" / "stage2"), folder)

    def _setup(self, work: Path) -> TrainingSetup:
        work.mkdir(parents=True)
        kind = TrainingSetup if self._validated else UnvalidatedSetup
        triplets, protocol = self.layout.training_triplets(), self.settings.validate
        return kind(self.layout, triplets, protocol, self.seed, work, self.workers, self.device)

    def record(self) -> dict[str, Any]:
        """The settings of the run, as `training.json` contains them."""
        stages = {"stage1": self.settings.stage1, "bank": self.settings.bank, "stage2": self.settings.stage2}
        count = sum(row.split == "val" for _, row in self.layout.given)
        return {
            "family": self.opened.checkpoint.family,
            "triplets": {"train": len(self.layout.given) - count, "val": count},
            "seed": self.seed,
            "device": str(self.device),
            **{name: None if own is None else own.model_dump(mode="json") for name, own in stages.items()},
        }
