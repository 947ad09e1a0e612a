"""The weights of an index: a copy in its folder, or the place where they lie; known by their hash."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from spn4cir.checkpoints.hub_folder import CONFIG, WEIGHTS, WORDS, is_hub_folder, weights_file
from spn4cir.errors import InputError
from spn4cir.files import file_hash
from spn4cir.search.pictures import Stamp, stamp

# Of a checkpoint file, and of a hub folder, whose settings and words go with it.
FILE, FOLDER = "weights.pt", "weights"


@dataclass(frozen=True)
class Weights:
    """A file of weights as it was when it was read.

    Attributes:
        stamp: its path, size and time.
        sha256: its hash, where it was taken.
    """

    stamp: Stamp
    sha256: str | None = None

    @classmethod
    def of(cls, checkpoint: Path) -> "Weights":
        """Those of a checkpoint file or of a hub folder."""
        return cls(stamp(weights_file(checkpoint)))

    @property
    def path(self) -> Path:
        """Where the file lies."""
        return Path(self.stamp.path)

    def hashed(self) -> str:
        """Its hash. Raises InputError when the file is no longer the one that was read."""
        if stamp(self.path) != self.stamp:
            raise InputError(f"{self.path}: changed or went since its network was read; make the retriever anew")
        return self.sha256 or file_hash(self.path)

    def lies_in(self, index: Path) -> bool:
        """Whether it is the copy that an index holds."""
        return self.path.resolve() in (index / FILE, index / FOLDER / WEIGHTS)

    def copy_into(self, folder: Path, ours: bool) -> None:
        """Copies it, with what else belongs to a hub folder.

        Args:
            folder: of an index.
            ours: whether it is the copy of the index that is replaced: a link costs nothing then.
        """
        if not is_hub_folder(self.path):
            _take(self.path, folder / FILE, ours)
            return
        (folder / FOLDER).mkdir()
        for name in (WEIGHTS, CONFIG, WORDS):
            if (source := self.path.with_name(name)).exists():
                _take(source, folder / FOLDER / name, ours)

    def check(self, index: Path, wanted: str) -> None:
        """Refuses others than those that an index was made with."""
        if (found := self.hashed()) != wanted:
            raise InputError(
                f"{self.path}: holds other weights than {index} was made with (sha256 {found[:12]}, expected "
                f"{wanted[:12]}); name the right file, or make an index in another folder"
            )


def find_weights(index: Path, wanted: str, recorded: str | None, checkpoint: Path | None) -> Weights:
    """The weights of an index.

    Args:
        index: its folder.
        wanted: their sha256.
        recorded: where they lay; None: they are in the folder.
        checkpoint: where they are now; None: there.

    Raises:
        InputError: they are not there or others.
    """
    inside = index / FOLDER / WEIGHTS if (index / FOLDER).is_dir() else index / FILE
    path = weights_file(checkpoint or (Path(recorded) if recorded else inside)).absolute()
    if not path.is_file():
        raise InputError(f"{path}: no such file; name the weights of {index} with checkpoint (--checkpoint FILE)")
    weights = Weights(stamp(path), file_hash(path))
    weights.check(index, wanted)
    return weights


def _take(source: Path, target: Path, ours: bool) -> None:
    """A copy with the time of the file, or a link."""
    if ours:
        try:
            os.link(source, target)
        except OSError:  # a file system without links
            shutil.copy2(source, target)
    else:
        shutil.copy2(source, target)
