"""The weights of an index, known by their hash: a copy in its folder, a file elsewhere, or a pretrained network."""

import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from spn4cir.checkpoints.hub_folder import CONFIG, WEIGHTS, WORDS, is_hub_folder, weights_file
from spn4cir.checkpoints.open import load_network
from spn4cir.checkpoints.pretrained import PretrainedName, network_hash, pretrained_name
from spn4cir.composers.encoding import tensors_hash
from spn4cir.composers.protocol import Composer, Options
from spn4cir.errors import InputError
from spn4cir.files import file_hash, value_hash
from spn4cir.readable import real_path
from spn4cir.search.image_files import Stamp, stamp

# Names in an index: the copy of a checkpoint file; the copy of a hub folder with its settings and vocabulary.
FILE, FOLDER = "weights.pt", "weights"


@dataclass(frozen=True)
class FileWeights:
    """A file of weights when its network was opened.

    Attributes:
        stamp: path, size and time of the file.
        head_widths: head widths of the attention (image tower, text tower) as given; None: the published one.
        composition: rule that composes the queries as given; None: the family's composition.
        sha256: hash of the file; None: not computed yet.
    """

    stamp: Stamp
    head_widths: tuple[int | None, int | None]
    composition: str | None
    sha256: str | None = None

    @property
    def source(self) -> str:
        """The path of the file."""
        return self.stamp.path

    @property
    def pretrained(self) -> None:
        """None, because the weights are in a file."""

    @property
    def path(self) -> Path:
        """The path of the file."""
        return Path(self.stamp.path)

    def hashed(self) -> str:
        """The sha256 of the file. Raises InputError if the file changed since it was read."""
        if stamp(self.path) != self.stamp:
            raise InputError(
                f"{self.path}: changed or was removed since its network was read; open the retriever again"
            )
        return self.sha256 or file_hash(self.path)

    def is_in(self, index: Path) -> bool:
        """Whether the file is the copy in an index."""
        return real_path(self.path) in (index / FILE, index / FOLDER / WEIGHTS)

    def copy_into(self, folder: Path, link: bool) -> None:
        """Copies the file, and the other files of a hub folder.

        Args:
            folder: the index to copy into.
            link: whether to link instead, as the file is the copy in the index that is replaced.
        """
        if not is_hub_folder(self.path):
            _copy(self.path, folder / FILE, link)
            return
        (folder / FOLDER).mkdir()
        for name in (WEIGHTS, CONFIG, WORDS):
            if (source := self.path.with_name(name)).exists():
                _copy(source, folder / FOLDER / name, link)


@dataclass(frozen=True)
class PretrainedWeights:
    """The weights of a pretrained network. An index contains the name instead of a copy.

    Attributes:
        name: name of the network.
        composer: the network.
        composition: rule that composes the queries as given; None: `sum`.
    """

    name: PretrainedName
    composer: Composer
    composition: str | None

    @property
    def source(self) -> str:
        """The name of the network, with the absolute path of a folder."""
        return str(self.name)

    @property
    def pretrained(self) -> str:
        """The name of the network, as `source`."""
        return self.source

    @property
    def path(self) -> None:
        """None, because an index does not refer to the files."""

    @property
    def head_widths(self) -> tuple[None, None]:
        """None for both towers, because open_clip's configuration contains the head widths."""
        return None, None

    @cached_property
    def _sha256(self) -> str:
        return network_hash(self.name, self.composer)

    def hashed(self) -> str:
        """The sha256 of the network."""
        return self._sha256

    def is_in(self, index: Path) -> bool:
        """False: no index contains the files."""
        del index
        return False

    def copy_into(self, folder: Path, link: bool) -> None:
        """Copies nothing."""


Weights = FileWeights | PretrainedWeights


def image_side_hash(composer: Composer, weights: Weights) -> str:
    """The sha256 of what determines the targets of images: the tensors that stage 2 freezes, and the preprocessing.

    It is equal for a stage-1 network and every stage 2 of it. A pretrained network has the hash of the published file
    that it converts to; one that has no such form, as with GELU, has a hash of its own.
    """
    if isinstance(weights, PretrainedWeights) and not _has_published_form(weights):
        return weights.hashed()
    return value_hash([tensors_hash(sorted(composer.frozen_tensors())), composer.preprocess.describe()])


def _has_published_form(weights: "PretrainedWeights") -> bool:
    """Whether a file of family `clip` with the same tensors computes the same features."""
    from spn4cir.composers.clip import AdditionComposer
    from spn4cir.composers.openai_clip import openai_form

    assert isinstance(weights.composer, AdditionComposer)
    try:
        openai_form(weights.composer.clip, weights.source)
    except InputError:
        return False
    return True


def check_weights(weights: Weights, index: Path, wanted: str) -> None:
    """Raises InputError if an index was made with other weights."""
    if (found := weights.hashed()) != wanted:
        raise InputError(
            f"{weights.source}: contains other weights than those of {index} (sha256 {found[:12]}, "
            f"expected {wanted[:12]}); give the right file, or write an index to another folder"
        )


def check_image_side(composer: Composer, weights: Weights, index: Path, wanted: str, image_side: str | None) -> None:
    """Compares a network with the one that encoded the images of an index.

    Args:
        composer: the network.
        weights: its weights.
        index: the folder of the index.
        wanted: sha256 of the weights of the index.
        image_side: sha256 of their image side; None: an earlier version wrote the index.

    Raises:
        InputError: the networks encode images differently, or the index has no hash of the image side.
    """
    if weights.hashed() == wanted:
        return
    if image_side is None:
        raise InputError(
            f"{weights.source}: contains other weights than those of {index}, which an earlier version wrote without a "
            "hash of the image side; write the index once more with its own weights (spn4cir index --out "
            f"{index}), then open it with these"
        )
    if (found := image_side_hash(composer, weights)) != image_side:
        raise InputError(
            f"{weights.source}: encodes images with other weights than those of {index} (image side: sha256 "
            f"{found[:12]}, expected {image_side[:12]}); give the weights of the index or a stage 2 of them, or write "
            "an index to another folder"
        )


def load_weights(
    checkpoint: Path, family: str | None, options: Options, device: torch.device, composition: str | None
) -> tuple[Composer, Weights]:
    """Loads a network; returns it with its weights. Arguments and errors are those of `load_network`."""
    if (name := pretrained_name(checkpoint)) is None:
        file = stamp(weights_file(checkpoint))  # before it is read
        composer = load_network(checkpoint, family, options, device, composition)
        return composer, FileWeights(file, (options.vision_head_width, options.text_head_width), composition)
    composer = load_network(checkpoint, family, options, device, composition)
    return composer, PretrainedWeights(name, composer, composition)


def find_weights(
    index: Path,
    wanted: str,
    recorded: str | None,
    head_widths: tuple[int | None, int | None],
    composition: str | None,
    checkpoint: Path | None,
) -> FileWeights:
    """Finds the file of the weights of an index.

    Args:
        index: the folder of the index.
        wanted: the expected sha256 of the copy in the folder.
        recorded: the file that the index was made with; None: the copy in the folder.
        head_widths: head widths that the index was made with.
        composition: rule that composes the queries; None: the family's composition.
        checkpoint: the file to take instead; None: `recorded`.

    Raises:
        InputError: the file is missing, or the copy in the folder is damaged.
    """
    inside = index / FOLDER / WEIGHTS if (index / FOLDER).is_dir() else index / FILE
    path = weights_file(checkpoint or (Path(recorded) if recorded else inside)).absolute()
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the weights of {index} with checkpoint (--checkpoint FILE)")
    weights = FileWeights(stamp(path), head_widths, composition, file_hash(path))
    if weights.is_in(real_path(index)):
        check_weights(weights, index, wanted)
    return weights


def _copy(source: Path, target: Path, link: bool) -> None:
    """Links or copies a file; a copy keeps the modification time."""
    if link:
        try:
            os.link(source, target)
        except OSError:  # the file system has no links
            shutil.copy2(source, target)
    else:
        shutil.copy2(source, target)
