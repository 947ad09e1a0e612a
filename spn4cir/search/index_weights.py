"""The weights of an index: a copy in its folder, or a file elsewhere; identified by their hash."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from spn4cir.checkpoints.hub_folder import CONFIG, WEIGHTS, WORDS, is_hub_folder, weights_file
from spn4cir.composers.protocol import Options
from spn4cir.errors import InputError
from spn4cir.files import file_hash
from spn4cir.search.image_files import Stamp, stamp

# Names in an index: the copy of a checkpoint file; the copy of a hub folder with its settings and vocabulary.
FILE, FOLDER = "weights.pt", "weights"


@dataclass(frozen=True)
class Weights:
    """A file of weights when its network was opened.

    Attributes:
        stamp: path, size and time of the file.
        head_widths: head widths of the attention (image tower, text tower) as given; None: the published one.
        sha256: hash of the file; None: not computed yet.
    """

    stamp: Stamp
    head_widths: tuple[int | None, int | None]
    sha256: str | None = None

    @classmethod
    def of(cls, checkpoint: Path, options: Options) -> "Weights":
        """The weights of a checkpoint file or a hub folder, opened with these options."""
        return cls(stamp(weights_file(checkpoint)), (options.vision_head_width, options.text_head_width))

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
        return self.path.resolve() in (index / FILE, index / FOLDER / WEIGHTS)

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

    def check(self, index: Path, wanted: str) -> None:
        """Raises InputError if an index was made with other weights."""
        if (found := self.hashed()) != wanted:
            raise InputError(
                f"{self.path}: contains other weights than those of {index} (sha256 {found[:12]}, expected "
                f"{wanted[:12]}); give the right file, or write an index to another folder"
            )


def find_weights(
    index: Path,
    wanted: str,
    recorded: str | None,
    head_widths: tuple[int | None, int | None],
    checkpoint: Path | None,
) -> Weights:
    """Finds the weights of an index.

    Args:
        index: the folder of the index.
        wanted: the expected sha256.
        recorded: the file that the index was made with; None: the copy in the folder.
        head_widths: head widths that the index was made with.
        checkpoint: the file to take instead; None: `recorded`.

    Raises:
        InputError: the file is missing, or its hash differs.
    """
    inside = index / FOLDER / WEIGHTS if (index / FOLDER).is_dir() else index / FILE
    path = weights_file(checkpoint or (Path(recorded) if recorded else inside)).absolute()
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the weights of {index} with checkpoint (--checkpoint FILE)")
    weights = Weights(stamp(path), head_widths, file_hash(path))
    weights.check(index, wanted)
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
