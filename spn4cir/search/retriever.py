"""Search in a gallery of images with a query image and a text."""

import sys
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, Self

import torch
from numpy import ndarray

from spn4cir.checkpoints.open import fetch_folder
from spn4cir.checkpoints.pretrained import require_name
from spn4cir.composers.protocol import Composer, Options
from spn4cir.device import choose_device
from spn4cir.errors import InputError
from spn4cir.images.workers import Workers
from spn4cir.replace_folder import read_unreplaced
from spn4cir.search import index_folder
from spn4cir.search.encoder import Encoder
from spn4cir.search.hits import Hit, find_hits
from spn4cir.search.index import ImageIndex
from spn4cir.search.index_weights import Weights, load_weights
from spn4cir.search.indexed_gallery import IndexedGallery
from spn4cir.search.indexer import StrPath
from spn4cir.search.inputs import Input
from spn4cir.search.query import Query, QueryImage, QueryPair, as_pair, prepare_query, text_warning


class Retriever(IndexedGallery):
    """A network and an index of the images that it searches.

    The targets of the images are stored in FAISS. Below 200,000 vectors a search compares all of them; from there on,
    inverted lists find candidates, whose exact scores are computed, and the recall is measured and printed. An image
    with several tokens (BLIP-2: 32) has as many vectors. `prepare`, `text_warning`, `names`, `path` and `in` may be
    called from any thread; searches and updates from one at a time.

    Args:
        composer: the network, on the device.
        weights: its weights: the file and the head widths, or the name of a pretrained network.
        device: the device of the network.
        workers: number of processes that decode images, where None is one a core, at most eight; or a cluster, which
            also encodes the images of `index`.

    Attributes:
        image_index: the images and their targets.
        changes: what the last update changed.

    Examples:
        >>> retriever = Retriever.from_checkpoint(checkpoint).index(folder)
        >>> retriever.names
        ('coat.png', 'dress.png', 'in/shirt.png')
        >>> hits = retriever.search("dress.png", "is red", k=2)
        >>> sorted(hit.name for hit in hits)
        ['coat.png', 'in/shirt.png']
        >>> len(retriever.search(None, "a red dress")), len(retriever.search("dress.png", None))
        (3, 2)
        >>> retriever.save("catalogue")
        >>> Retriever.load("catalogue").search("dress.png", "is red", k=2) == hits
        True
    """

    def __init__(self, composer: Composer, weights: Weights, device: torch.device, workers: Workers | None) -> None:
        super().__init__(composer, weights, device, workers)
        self._encoder = Encoder(composer, device)

    @classmethod
    def from_checkpoint(
        cls,
        path: StrPath,
        family: str | None = None,
        tokenizer: str | None = None,
        *,
        vision_head_width: int | None = None,
        text_head_width: int | None = None,
        composition: str | None = None,
        device: str = "auto",
        workers: Workers | None = None,
    ) -> Self:
        """Opens the network of a checkpoint, published or trained here, or a pretrained one, without a gallery.

        Args:
            path: the `.pt` file, a folder of `export --to hub-folder`, or a name that `from_pretrained` takes.
            family: the expected family, or a recipe of it; None: the family of the file.
            tokenizer: folder or hub id of BLIP's tokenizer; None: the vocabulary in the file, else the published one.
            vision_head_width: head width of the image tower's attention, not in the file; None: the published one.
            text_head_width: head width of the text tower's attention; None: the published one.
            composition: for a CLIP network, how queries are composed: `sum`, `text`, `image` or `slerp`; None: as the
                family composes, for a pretrained network `sum`.
            device: `auto`, `cpu`, `cuda` or `cuda:0`.
            workers: number of processes that decode images in `index`; None: one a core, at most eight.

        Raises:
            InputError: the file, the family, the tokenizer or the device is missing or not usable, the family does not
                take the composition, or the pretrained network cannot be downloaded or composed.
        """
        place = choose_device(device)
        options = Options(tokenizer, vision_head_width=vision_head_width, text_head_width=text_head_width)
        composer, weights = load_weights(Path(path), family, options, place, composition)
        return cls(composer, weights, place, workers)

    @classmethod
    def from_pretrained(
        cls, name: str, *, composition: str | None = None, device: str = "auto", workers: Workers | None = None
    ) -> Self:
        """Opens a pretrained CLIP network, downloaded into the hub's cache unless that contains it, without a gallery.

        Args:
            name: `open_clip:ARCHITECTURE/TAG`, or in open_clip's form `hf-hub:OWNER/NAME` or `local-dir:FOLDER`.
            composition: `sum`, `text`, `image` or `slerp`; None: `sum`.
            device: as in `from_checkpoint`.
            workers: as in `from_checkpoint`.

        Raises:
            InputError: the network does not exist, cannot be downloaded, or is not a CLIP with CLIP's tokenizer.
        """
        require_name(name)
        return cls.from_checkpoint(name, composition=composition, device=device, workers=workers)

    @classmethod
    def from_hub(
        cls, repository: str, revision: str = "main", *, device: str = "auto", workers: Workers | None = None
    ) -> Self:
        """Opens the network of a folder of `export --to hub-folder` that was uploaded to the hub.

        Args:
            repository: `owner/name`.
            revision: branch, tag or commit.
            device: as in `from_checkpoint`.
            workers: as in `from_checkpoint`.

        Raises:
            InputError: the hub is not reachable or refuses the request, or the repository contains no such folder.
        """
        return cls.from_checkpoint(fetch_folder(repository, revision), device=device, workers=workers)

    @classmethod
    def load(
        cls, folder: StrPath, *, checkpoint: StrPath | None = None, device: str = "auto", workers: Workers | None = None
    ) -> Self:
        """Loads an index that `save` wrote, with its network. The hashes of all files are checked.

        Args:
            folder: the index.
            checkpoint: a file of weights, or the name of a pretrained network, whose image side is that of the index,
                such as a stage 2 of its stage-1 weights; None: the copy in the folder, else the file or the pretrained
                network that was used.
            device: as in `from_checkpoint`.
            workers: as in `from_checkpoint`.

        Raises:
            InputError: the folder is no index or is damaged, or the weights are missing or have another image side.
        """
        source, place = Path(folder).absolute(), choose_device(device)
        given = None if checkpoint is None else Path(checkpoint)

        def read() -> tuple[Composer, Weights, ImageIndex]:
            manifest = index_folder.read_manifest(source)
            network = index_folder.open_network(source, manifest, given, place)
            return *network, index_folder.read_index(source, manifest)

        composer, weights, index = read_unreplaced(source, read)
        retriever = cls(composer, weights, place, workers)
        retriever.image_index = index
        return retriever

    def encode(self, inputs: Sequence[Input] | Input, **options: Any) -> torch.Tensor | ndarray:
        """Encodes queries and images with the network; see `Encoder.encode` for arguments, result and errors."""
        return self._encoder.encode(inputs, **options)

    def search(
        self, image: QueryImage | None, text: str | None, k: int = 10, exclude_reference: bool = True
    ) -> list[Hit]:
        """Finds the best images, best first; equal scores are sorted by name.

        A text that is longer than the network reads is cut, with a warning on stderr.

        Args:
            image: a file, a PIL image, or the name of an image of the gallery. A string that is both is the name; a
                `Path` is always a file. None: search with the text alone, by reference features of zeros.
            text: the change to search for. None: search with the image alone, composed with the empty text.
            k: number of hits, at least 1; a smaller gallery is returned whole.
            exclude_reference: leave out the query image, and each image with equal decoded pixels.

        Raises:
            InputError: both are None or have another type, the text is empty, the image cannot be decoded, the
                composition reads only the part that is None, `k` is below 1, nothing is indexed, or the network returns
                numbers that are not finite.
        """
        query = self.prepare(image, text)
        if warning := self.text_warning(text):
            print(f"warning: {warning}", file=sys.stderr)
        return self.search_many([query], k, exclude_reference)[0]

    def prepare(self, image: QueryImage | None, text: str | None) -> Query:
        """Decodes and checks a query for `search_many`. Raises InputError as `search` does."""
        return prepare_query(self.composer, self.image_index, image, text)

    def text_warning(self, text: str | None) -> str | None:
        """A warning about a text that is longer than the network reads; None for other texts."""
        return text_warning(self.composer, text)

    def search_many(
        self, queries: Sequence[Query | QueryPair], k: int = 10, exclude_reference: bool = True
    ) -> list[list[Hit]]:
        """Runs `search` for several queries, which are encoded and composed in batches.

        In an exact index, the hits of a smaller `k` are the first ones of a larger `k`; in the others, up to `k` = 20.
        Raises InputError as `search` does.

        Examples:
            >>> retriever = Retriever.from_checkpoint(checkpoint).index(folder)
            >>> first, second = retriever.search_many([("coat.png", "is red"), ("dress.png", "is longer")], k=1)
            >>> len(first), len(second)
            (1, 1)
        """
        if not isinstance(k, Integral) or k < 1:
            raise InputError(f"k is {k!r}; ask for at least 1 image")
        self.image_index.require_vectors()
        read = [query if isinstance(query, Query) else self.prepare(*as_pair(query)) for query in queries]
        if not read:
            return []
        return find_hits(self.image_index, self.composer, self.device, read, k, exclude_reference)
