"""File names of captions, unique images and generated triplets, as the authors publish them."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PublishedNames:
    """File names of a data set's captions, unique images and generated triplets, and paths of published ones.

    Attributes:
        root: the folder of the data set.
        captions_folder: folder of published captions, relative to the root.
        captions_pattern: file name of captions, with the field `{words}`.
        triplets_folder: folder of published generated triplets, relative to the root.
        triplets_pattern: file name of generated triplets, with the field `{family}`.
    """

    root: Path
    captions_folder: str
    captions_pattern: str
    triplets_folder: str = ""
    triplets_pattern: str = "cap.extend_{family}.train.json"

    def captions_name(self, words: int) -> str:
        """Returns the file name of the captions of that many words."""
        return self.captions_pattern.format(words=words)

    def captions(self, words: int) -> Path:
        """Returns the path of the published captions of that many words."""
        return self.root / self.captions_folder / self.captions_name(words)

    @property
    def unique(self) -> Path:
        """Path of the published unique images: `optimized_images.json` in the root."""
        return self.root / "optimized_images.json"

    def triplets_name(self, family: str) -> str:
        """Returns the file name of the generated triplets of a family."""
        return self.triplets_pattern.format(family=family)

    def triplets(self, family: str) -> Path:
        """Returns the path of the published generated triplets of a family."""
        return self.root / self.triplets_folder / self.triplets_name(family)
