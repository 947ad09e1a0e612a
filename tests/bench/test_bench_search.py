"""Search over 100,000 stored vectors beside encoding a query and FAISS alone; then lists, and updates."""

from pathlib import Path

import faiss
import numpy as np
import pytest
import torch
from numpy import ndarray
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from pytest_benchmark.fixture import BenchmarkFixture

from spn4cir import Retriever
from spn4cir.checkpoints.published import load_composer
from spn4cir.images.decoding import open_image
from spn4cir.search.image_columns import IndexedImage
from spn4cir.search.image_table import ImageTable
from spn4cir.search.index import ImageIndex
from spn4cir.search.stored_targets import StoredTargets
from spn4cir.search.vectors import EXACT_BELOW, Vectors
from tests.bench.conftest import RatioToBare
from tests.helpers.checkpoints import container
from tests.helpers.layouts import draw

STORED, DIM = 100_000, 128
TEXT = "is red with long sleeves"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of the size of the demo's CLIP."""
    vision = CLIPVisionCfg(layers=4, width=128, head_width=64, patch_size=8, image_size=32)
    text = CLIPTextCfg(context_length=32, vocab_size=49408, width=64, heads=1, layers=2)
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "best.pt"
    torch.save(container(CLIP(DIM, vision, text, quick_gelu=True).state_dict()), path)
    return path


def clustered(count: int) -> ndarray:
    """Unit vectors around 1,000 centres."""
    rng = np.random.default_rng(0)
    drawn = rng.standard_normal((1_000, DIM), dtype=np.float32)[rng.integers(1_000, size=count)]
    drawn += 0.7 * rng.standard_normal((count, DIM), dtype=np.float32)
    faiss.normalize_L2(drawn)
    return drawn


def vectors_of(targets: ndarray) -> Vectors:
    rows, given = np.arange(len(targets)), StoredTargets(1, DIM)
    given.append(rows, targets[:, None])
    held = Vectors.empty(1, DIM)
    held.update(rows, given, np.empty(0, np.int64))
    return held


def stored(retriever: Retriever, targets: ndarray) -> Retriever:
    """A gallery of that many images, none of which is on disk."""
    held = vectors_of(targets)
    keys = (row.to_bytes(8, "big") for row in range(len(targets)))
    entries = ((f"{row}.png", IndexedImage(f"/{row}.png", 1, 1, key, key, row)) for row, key in enumerate(keys))
    retriever.image_index = ImageIndex(ImageTable(entries), held, (DIM,), Path("/"), whole_folder=False)
    return retriever


def test_a_query_over_a_hundred_thousand(
    checkpoint: Path, tmp_path: Path, ratio_to_bare: RatioToBare, benchmark: BenchmarkFixture
) -> None:
    """At most 1.5 times what decoding, encoding and composing the query and FAISS's search of ten cost."""
    targets = clustered(STORED)
    retriever = stored(Retriever.from_checkpoint(checkpoint, device="cpu", workers=0), targets)
    composer, index = load_composer(checkpoint), faiss.IndexFlatIP(DIM)
    index.add(targets)
    query = draw(tmp_path / "query.png", 0, (64, 64))

    def bare() -> None:
        with torch.inference_mode():
            features = composer.encode_image(composer.preprocess(open_image(query))[None])
            index.search(composer.compose(features.reference, [TEXT]).numpy(), 10)

    ratio = ratio_to_bare(lambda: retriever.search(query, TEXT), bare, rounds=50, warmup=5)
    benchmark.extra_info.update(vectors=STORED, limit=1.5)
    assert ratio <= 1.5


def test_lists_of_many_vectors(ratio_to_bare: RatioToBare, benchmark: BenchmarkFixture) -> None:
    """From the limit on: a recall of at least 0.95, and a search that takes less time than an exact one."""
    targets = clustered(EXACT_BELOW + 1)
    held, exact = vectors_of(targets), faiss.IndexFlatIP(DIM)
    exact.add(targets)
    assert held.approximate
    assert held.recall is not None
    queries = targets[:200:2] + targets[1:200:2]
    faiss.normalize_L2(queries)

    def search() -> None:
        held.best(queries, [10] * len(queries), [lambda found, query=query: found[:, 0] @ query for query in queries])

    ratio = ratio_to_bare(search, lambda: exact.search(queries, 10), rounds=5)
    benchmark.extra_info.update(vectors=len(targets), recall=held.recall, bare="exact")
    assert held.recall >= 0.95
    assert ratio < 1


def test_adding_an_image(
    checkpoint: Path, tmp_path: Path, ratio_to_bare: RatioToBare, benchmark: BenchmarkFixture
) -> None:
    """One more image in a folder of 1,000: at most a tenth of what indexing the folder costs."""
    for number in range(1_000):
        draw(tmp_path / "gallery" / f"{number}.png", number, (64, 64))
    retriever = Retriever.from_checkpoint(checkpoint, device="cpu", workers=0).index(tmp_path / "gallery")
    numbers = iter(range(1_000, 2_000))

    def update() -> None:
        number = next(numbers)
        draw(tmp_path / "gallery" / f"{number}.png", number, (64, 64))
        assert retriever.refresh().added == (f"{number}.png",)

    def rebuild() -> None:
        retriever.image_index = ImageIndex()
        retriever.index(tmp_path / "gallery")

    ratio = ratio_to_bare(update, rebuild, rounds=3)
    benchmark.extra_info.update(images=1_000, bare="rebuild", limit=0.1)
    assert ratio <= 0.1
