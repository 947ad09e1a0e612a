"""Search in a gallery of one's own: the pictures that a picture and a text ask for."""

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self

import torch
from jaxtyping import Float, Float32
from numpy import ndarray
from PIL import Image
from torch import Tensor

from spn4cir.checkpoints.open import fetch_folder, load_network
from spn4cir.composers.protocol import Composer, Options
from spn4cir.device import choose_device
from spn4cir.errors import InputError
from spn4cir.search.encode import BATCH_SIZE, compose, encode_pixels
from spn4cir.search.gallery import IndexedGallery
from spn4cir.search.index import Place
from spn4cir.search.index_folder import check_network, read_holdings, read_manifest, vocabulary_folder, write_index
from spn4cir.search.index_weights import Weights, find_weights
from spn4cir.search.pictures import padded_pixels
from spn4cir.search.query import Query, read_query, text_warning
from spn4cir.search.vectors import Best


@dataclass(frozen=True)
class Hit:
    """A picture of the gallery that was found.

    Attributes:
        name: its name in the gallery.
        score: its similarity to the query: a cosine, of the best token where a picture has several.
        path: where it lies.
    """

    name: str
    score: float
    path: str


class Retriever(IndexedGallery):
    """A network and a gallery that it searches.

    Targets lie in FAISS: up to 200,000 vectors every one is compared, from there on those of the nearest lists, whose
    recall is measured and printed. Pictures of several tokens (BLIP-2: 32) have as many vectors. `prepare`,
    `text_warning`, `names`, `path` and `in` may be called from any thread; searches and updates one at a time.

    Examples:
        >>> retriever = Retriever.from_checkpoint(checkpoint).index(folder)
        >>> retriever.names
        ('coat.png', 'dress.png', 'in/shirt.png')
        >>> hits = retriever.search("dress.png", "is red", k=2)
        >>> sorted(hit.name for hit in hits)
        ['coat.png', 'in/shirt.png']
        >>> retriever.save("catalogue")
        >>> Retriever.load("catalogue").search("dress.png", "is red", k=2) == hits
        True
    """

    def __init__(
        self, composer: Composer, weights: Weights, widths: Options, device: torch.device, workers: int | None
    ) -> None:
        super().__init__(composer, device, workers)
        self._weights = weights
        self._widths = widths

    @classmethod
    def from_checkpoint(
        cls,
        path: Place,
        family: str | None = None,
        tokenizer: str | None = None,
        *,
        vision_head_width: int | None = None,
        text_head_width: int | None = None,
        device: str = "auto",
        workers: int | None = None,
    ) -> Self:
        """With the network of a checkpoint, published or of one's own, and no gallery yet.

        Args:
            path: the `.pt` file, or a folder of `export --to hub-folder`.
            family: the family that is expected, or a recipe of it; None takes what the file tells.
            tokenizer: of BLIP and BLIP-2, a folder or a hub id; None: the vocabulary in the file, else the published.
            vision_head_width: of the image tower's attention, which no file tells; None: the published one.
            text_head_width: the same of the text tower.
            device: where the network runs: `auto`, `cpu`, `cuda` or `cuda:0`.
            workers: processes that decode pictures for `index`; None: one a core, at most eight.

        Raises:
            InputError: the file, the family, the tokenizer or the device will not do.
        """
        place, weights = choose_device(device), Weights.of(Path(path))
        widths = Options(vision_head_width=vision_head_width, text_head_width=text_head_width)
        composer = load_network(Path(path), family, replace(widths, tokenizer=tokenizer), place)
        return cls(composer, weights, widths, place, workers)

    @classmethod
    def from_hub(
        cls, repository: str, revision: str = "main", *, device: str = "auto", workers: int | None = None
    ) -> Self:
        """As `from_checkpoint`, of a folder of `export --to hub-folder` that was uploaded to the hub.

        Args:
            repository: as `owner/name`.
            revision: branch, tag or commit.
            device: as of `from_checkpoint`.
            workers: as of `from_checkpoint`.

        Raises:
            InputError: the hub cannot be reached or refuses, or the repository holds no such folder.
        """
        return cls.from_checkpoint(fetch_folder(repository, revision), device=device, workers=workers)

    @classmethod
    def load(
        cls, folder: Place, *, checkpoint: Place | None = None, device: str = "auto", workers: int | None = None
    ) -> Self:
        """What `save` wrote, its files compared with their hashes.

        Args:
            folder: where.
            checkpoint: the file with the weights; None: the one in the folder, else the one where it lay.
            device: as of `from_checkpoint`.
            workers: as of `from_checkpoint`.

        Raises:
            InputError: the folder is no index or is damaged, or the weights are not there or others.
        """
        source, place = Path(folder).absolute(), choose_device(device)
        manifest = read_manifest(source)
        named = None if checkpoint is None else Path(checkpoint)
        weights = find_weights(source, manifest.weights, manifest.weights_path, named)
        widths = Options(vision_head_width=manifest.vision_head_width, text_head_width=manifest.text_head_width)
        options = replace(widths, tokenizer=vocabulary_folder(source, manifest))
        retriever = cls(load_network(weights.path, manifest.family, options, place), weights, widths, place, workers)
        retriever._holdings = read_holdings(source, manifest)
        return retriever

    def resume(self, folder: Place) -> Self:
        """Takes up the gallery that `save` wrote with the same network. Raises InputError as `load`."""
        source = Path(folder).absolute()
        manifest = read_manifest(source)
        check_network(source, manifest, self._weights, self._widths)
        self._holdings = read_holdings(source, manifest)
        return self

    def save(self, folder: Place, *, weights: bool = True) -> None:
        """Writes the index, whole or not at all, in the place of one that stands there.

        Args:
            folder: where; it holds `vectors.faiss`, `pictures.parquet` and `index.json`.
            weights: copy the checkpoint too; without it, it is looked for where it lay and known by its hash.

        Raises:
            InputError: nothing is indexed, the folder holds other files or cannot be written, or the checkpoint
                changed since it was read.
        """
        write_index(
            Path(folder),
            self._holdings,
            self._weights,
            weights,
            self._composer.family,
            self._widths,
            self._composer.vocabulary,
        )

    def search(self, image: Place | Image.Image, text: str, k: int = 10, exclude_reference: bool = True) -> list[Hit]:
        """The best pictures, best first; equal scores in the order of the names.

        A text that the network will cut is searched all the same, with a word on stderr.

        Args:
            image: a file, a picture that was opened, or the name of a picture of the gallery (which a text that is
                both is taken for; a `Path` is a file).
            text: what is to be different.
            k: how many, at least 1; a smaller gallery is given whole.
            exclude_reference: leave the query picture out, under other names and in other formats too: pictures of
                the same decoded pixels.

        Raises:
            InputError: the text is empty, the image cannot be decoded, `k` is below 1, nothing is indexed, or the
                weights give figures that are not finite.
        """
        query = self.prepare(image, text)
        if warning := self.text_warning(text):
            print(f"warning: {warning}", file=sys.stderr)
        return self.search_many([query], k, exclude_reference)[0]

    def prepare(self, image: Place | Image.Image, text: str) -> Query:
        """Reads and checks a query for `search_many`. Raises InputError as `search`."""
        if isinstance(image, str) and image in self:
            return read_query(self._composer, self.path(image), text, image)
        picture = image if isinstance(image, Image.Image) else Path(image)
        if isinstance(picture, Path) and not picture.exists():
            raise InputError(f"{image}: no such image; name a file, or a picture of the gallery")
        return read_query(self._composer, picture, text)

    def padded_pixels(self, image: Image.Image) -> float:
        """How many pixels a picture has, at the most, while it is made ready for the network."""
        return padded_pixels(image, self._composer.preprocess)

    def text_warning(self, text: str) -> str | None:
        """What to say of a text that the network will cut; None of others."""
        return text_warning(self._composer, text)

    def search_many(
        self,
        queries: Sequence[Query | tuple[Place | Image.Image, str]],
        k: int = 10,
        exclude_reference: bool = True,
    ) -> list[list[Hit]]:
        """As `search` for several queries, whose pictures are encoded and composed in batches.

        Hits for a smaller `k` are the beginning of those for a larger one. Raises InputError as `search`.

        Examples:
            >>> retriever = Retriever.from_checkpoint(checkpoint).index(folder)
            >>> first, second = retriever.search_many([("coat.png", "is red"), ("dress.png", "is longer")], k=1)
            >>> len(first), len(second)
            (1, 1)
        """
        if k < 1:
            raise InputError(f"k is {k}; ask for at least 1 picture")
        vectors = self._held()
        read = [query if isinstance(query, Query) else self.prepare(*query) for query in queries]
        if not read:
            return []
        left_out = [self._left_out(query) if exclude_reference else frozenset() for query in read]
        with torch.inference_mode():
            composed = self._compose(read)
            scores = [partial(self._score, query) for query in composed]
            best = vectors.best(composed.cpu().numpy(), [k + len(names) for names in left_out], scores)
        return [self._hits(found, names, k) for found, names in zip(best, left_out, strict=True)]

    def _left_out(self, query: Query) -> frozenset[str]:
        own = () if query.name is None else (query.name,)
        return frozenset((*own, *self._holdings.catalogue.equal(query.digest)))

    def _compose(self, queries: Sequence[Query]) -> Float[Tensor, "queries dim"]:
        """Unit-norm queries, on the device."""
        composed = []
        for start in range(0, len(queries), BATCH_SIZE):
            part = queries[start : start + BATCH_SIZE]
            features = encode_pixels(self._composer, torch.stack([query.pixels for query in part]), self._device)
            composed.append(compose(self._composer, features.reference, [query.text for query in part]))
        return torch.cat(composed)

    def _score(
        self, query: Float[Tensor, " dim"], targets: Float32[ndarray, "pictures tokens dim"]
    ) -> Float32[ndarray, " pictures"]:
        """Scores by the family's own rule, one at a time: so a score does not depend on which others are asked for."""
        each = torch.from_numpy(targets).reshape(len(targets), 1, *self._holdings.target).to(self._device)
        found = [self._composer.score(query[None], target)[0] for target in each]
        return torch.cat(found).float().cpu().numpy()

    def _hits(self, best: Best, left_out: Collection[str], k: int) -> list[Hit]:
        catalogue = self._holdings.catalogue
        ranked = sorted(
            (-score, name)
            for vector, score in zip(best.ids.tolist(), best.scores.tolist(), strict=True)
            for name in catalogue.sharing(vector)
            if name not in left_out
        )
        return [Hit(name, -score, catalogue[name].path) for score, name in ranked[:k]]
