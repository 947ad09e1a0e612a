"""Search: every family is indexed, saved, loaded and searched, with its own scores."""

from pathlib import Path

import pytest
import torch

from spn4cir import Retriever
from spn4cir.checkpoints.published import save_composer
from spn4cir.images.decoding import open_image
from spn4cir.search.vectors import Vectors
from tests.conformance.builders import Subject, builder
from tests.helpers.layouts import draw


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search") / "gallery"
    for number in range(40):
        draw(folder / f"{number:02}.png", number)
    return folder


def indexed(first: Subject, gallery: Path) -> Retriever:
    options = builder(first.family).options
    widths = {"vision_head_width": options.vision_head_width, "text_head_width": options.text_head_width}
    return Retriever.from_checkpoint(first.published, first.family, **widths, workers=0).index(gallery)


def full_scores(first: Subject, gallery: Path, name: str, text: str) -> dict[str, float]:
    """Ranks every image by the family's `score`, in one matrix."""
    network, names = first.network, sorted(path.name for path in gallery.iterdir())
    pixels = torch.stack([network.preprocess(open_image(gallery / each)) for each in names])
    with torch.no_grad():
        features = network.encode_image(pixels)
        row = names.index(name)
        scores = network.score(network.compose(features.reference[row : row + 1], [text]), features.target)[0]
    return {each: float(score) for each, score in zip(names, scores, strict=True) if each != name}


@pytest.mark.parametrize("lists", [False, True], ids=["exact", "approximate"])
def test_hits_are_those_of_the_full_score(
    first: Subject, gallery: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lists: bool
) -> None:
    """Before and after the index is saved; also over lists, all of which are searched here."""
    if lists:
        monkeypatch.setattr("spn4cir.search.vectors.EXACT_BELOW", 40)
        monkeypatch.setattr("spn4cir.search.vectors.RECALL", 2)
    retriever = indexed(first, gallery)
    retriever.save(tmp_path / "index")
    wanted = full_scores(first, gallery, "07.png", "is red")
    best = sorted(wanted.values(), reverse=True)
    for each in (retriever, Retriever.load(tmp_path / "index", workers=0)):
        assert each.approximate == lists
        hits = each.search("07.png", "is red", k=99)
        assert {hit.name: hit.score for hit in hits} == pytest.approx(wanted, abs=1e-5)
        assert [hit.score for hit in hits] == pytest.approx(best, abs=1e-5)
        assert each.search("07.png", "is red", k=5) == hits[:5]


def test_a_text_alone_has_no_information_about_the_image(first: Subject, gallery: Path) -> None:
    """As the shortcuts measure it: reference features of zeros."""
    network, names = first.network, sorted(path.name for path in gallery.iterdir())
    pixels = torch.stack([network.preprocess(open_image(gallery / each)) for each in names])
    with torch.no_grad():
        features = network.encode_image(pixels)
        query = network.compose(torch.zeros_like(features.reference[:1]), ["is red"])
        wanted = dict(zip(names, network.score(query, features.target)[0].tolist(), strict=True))
    hits = indexed(first, gallery).search(None, "is red", k=99)
    assert {hit.name: hit.score for hit in hits} == pytest.approx(wanted, abs=1e-5)


def test_an_image_alone_is_composed_with_the_empty_text(first: Subject, gallery: Path) -> None:
    hits = indexed(first, gallery).search("07.png", None, k=99)
    assert {hit.name: hit.score for hit in hits} == pytest.approx(full_scores(first, gallery, "07.png", ""), abs=1e-5)


def test_an_image_has_as_many_vectors_as_its_targets_have_tokens(first: Subject, gallery: Path) -> None:
    vectors = indexed(first, gallery).image_index.vectors
    assert isinstance(vectors, Vectors)
    sizes = first.network.sizes()
    shape = sizes.embedding if sizes is not None else (vectors.dim,)
    assert (vectors.tokens, vectors.dim) == (shape[0] if len(shape) == 2 else 1, shape[-1])


def test_a_stage_2_searches_the_index_of_its_stage_1(first: Subject, gallery: Path, tmp_path: Path) -> None:
    """Stage 2 does not train the image side, so the index need not be made again."""
    indexed(first, gallery).save(tmp_path / "index")
    network = first.load()
    trained = network.train_stage(2)
    with torch.no_grad():
        for parameter in (*trained.backbone, *trained.heads):
            parameter.add_(torch.linspace(0, 0.5, parameter.numel()).view_as(parameter))
    save_composer(network, tmp_path / "stage2.pt", 2, 1)
    loaded = Retriever.load(tmp_path / "index", checkpoint=tmp_path / "stage2.pt", workers=0)
    own = Retriever.load(tmp_path / "index", workers=0)
    found, other = ({hit.name: hit.score for hit in each.search("07.png", "is red", k=99)} for each in (loaded, own))
    assert found.keys() == other.keys()
    assert found != pytest.approx(other, abs=1e-5)
