"""The encoder: what an input means, its batches, and the network's own score."""

import doctest
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import spn4cir.search.encoder
from spn4cir.errors import InputError
from spn4cir.images.decoding import open_image
from spn4cir.search.encoder import Encoder
from spn4cir.search.inputs import Item, read_item
from tests.conftest import CPU
from tests.helpers.checkpoints import write_checkpoint
from tests.helpers.layouts import draw
from tests.helpers.published import write_published
from tests.helpers.stub import StubComposer

RED = torch.eye(12)[0]


@pytest.fixture
def image_files(tmp_path) -> list[Path]:
    return [draw(tmp_path / f"{number}.png", number) for number in range(5)]


@pytest.fixture
def encoder() -> Encoder:
    return Encoder(StubComposer({"is red": RED}), CPU)


def features(encoder: Encoder, path: Path) -> torch.Tensor:
    pixels = encoder.composer.preprocess(open_image(path))[None]
    return encoder.composer.encode_image(pixels).reference


def test_the_examples_of_the_docstring(tmp_path, monkeypatch):
    for number, name in enumerate(("coat.png", "dress.png", "in/shirt.png")):
        draw(tmp_path / name, number)
    monkeypatch.chdir(tmp_path)
    given = {"checkpoint": write_checkpoint(tmp_path / "best.pt"), "Encoder": Encoder, "Path": Path}
    runner = doctest.DocTestRunner()
    for example in doctest.DocTestFinder(exclude_empty=True).find(spn4cir.search.encoder, globs=given):
        runner.run(example)
    assert (runner.tries, runner.failures) == (4, 0)


def test_a_query_is_composed_of_what_it_holds(encoder, image_files):
    """An image and a text; the image with the empty text; the text with features of zeros."""
    image = features(encoder, image_files[0])
    with Image.open(image_files[0]) as opened:
        found = encoder.encode_query(
            [
                {"image": opened, "text": "is red"},
                {"image": str(image_files[0])},
                image_files[0],
                "is red",
                {"text": "is red"},
            ],
            convert_to_tensor=True,
        )
    wanted = [
        encoder.composer.compose(image, ["is red"]),
        *[encoder.composer.compose(image, [""])] * 2,
        *[encoder.composer.compose(torch.zeros_like(image), ["is red"])] * 2,
    ]
    assert torch.allclose(found, torch.cat(wanted), atol=1e-6)


def test_a_string_that_names_a_file_is_an_image(encoder, image_files, tmp_path, monkeypatch):
    """Any other string is a text, and so is every string under the key `text`."""
    wanted = encoder.encode_query(image_files[0])
    assert np.allclose(encoder.encode_query(str(image_files[0])), wanted)
    assert np.allclose(encoder.encode_document([str(image_files[0])]), encoder.encode_document([image_files[0]]))
    monkeypatch.chdir(tmp_path)
    assert np.allclose(encoder.encode_query([image_files[0].name])[0], wanted)
    assert read_item({"text": "0.png"}) == Item(None, "0.png")
    for text in ("is red", "as in cat.png", "version 2.0", "a" * 5_000, "either/or", "no\0thing", ""):
        assert read_item(text) == Item(None, text)


@pytest.mark.parametrize("path", ["cat.png", "/path/cat.PNG", "my images/a cat.jpeg", "./cat.webp"])
def test_the_path_of_an_image_that_does_not_exist_is_no_text(encoder, path):
    with pytest.raises(InputError, match=r"no such image; check the path, or give \{'text': ...\} if it is a text"):
        encoder.encode_query([path])
    assert read_item({"text": path}) == Item(None, path)


def test_it_shows_what_it_is(encoder):
    assert repr(encoder) == "Encoder(family='stub', device='cpu')"


def test_encode_takes_texts_for_queries_and_images_for_documents(encoder, image_files):
    mixed = encoder.encode([image_files[0], {"image": image_files[0], "text": "is red"}])
    assert np.allclose(mixed[0], encoder.encode_document(image_files[0]), atol=1e-6)
    assert np.allclose(mixed[1], encoder.encode_query({"image": image_files[0], "text": "is red"}), atol=1e-6)
    assert mixed.dtype == np.float32
    assert isinstance(encoder.encode(image_files, convert_to_tensor=True), torch.Tensor)
    assert encoder.encode([]).shape == (0, 12)


def test_each_image_is_encoded_once_in_batches(encoder, image_files):
    """Of queries too, which need the reference's feature alone."""
    queries = [{"image": path, "text": "is red"} for path in image_files]
    _ = encoder.dim
    encoder.composer.encoded = 0
    together = encoder.encode_query(queries, batch_size=2)
    assert encoder.composer.encoded == 5
    assert np.allclose(together, encoder.encode_query(queries, batch_size=99), atol=1e-6)
    assert encoder.composer.encoded == 10


def test_the_score_is_the_networks_own(encoder, image_files):
    queries = encoder.encode_query([{"image": path, "text": "is red"} for path in image_files[:2]])
    documents = encoder.encode_document(image_files)
    scores = encoder.similarity(queries, documents)
    assert torch.allclose(scores, torch.from_numpy(queries @ documents.T), atol=1e-6)
    assert torch.allclose(encoder.similarity_pairwise(queries, documents[:2]), scores.diagonal(), atol=1e-6)
    assert encoder.similarity(queries[0], documents[0]).shape == (1, 1)
    assert encoder.similarity(list(queries), [torch.from_numpy(each) for each in documents]).shape == (2, 5)
    assert (encoder.similarity_fn_name, encoder.get_sentence_embedding_dimension()) == ("dot", 12)


@pytest.mark.parametrize("family", ["clip", "blip2"])
def test_no_inputs_give_no_embeddings_and_no_scores(tmp_path, image_files, family):
    """In the shapes that others have: of BLIP-2 a document is several vectors."""
    write_published(tmp_path / "a.pt", family, 2)
    encoder = Encoder.from_checkpoint(tmp_path / "a.pt", tokenizer=str(tmp_path) if family == "blip2" else None)
    query, document = encoder.encode_query(["is red"]), encoder.encode_document(image_files[:1])
    no_query, no_document = encoder.encode_query([]), encoder.encode_document([])
    assert (no_query.shape, no_document.shape) == ((0, *query.shape[1:]), (0, *document.shape[1:]))
    assert encoder.similarity(no_query, document).shape == (0, 1)
    assert encoder.similarity(query, no_document).shape == (1, 0)
    assert encoder.similarity_pairwise(no_query, no_document).shape == (0,)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda e, p: e.encode_document([{"image": p, "text": "is red"}]),
            "a document: expected an image without a text",
        ),
        (lambda e, p: e.encode_document(["is red"]), "a document: expected an image without a text"),
        (lambda e, p: e.encode([{"audio": p}]), r"a dict of 'image' and 'text', not \['audio'\]"),
        (lambda e, p: e.encode([3]), "not int"),
        (lambda e, p: e.encode([{"image": 3}]), "'image' is a path or a PIL image, not int"),
        (lambda e, p: e.encode([{"text": None}]), "'text' is a string, not NoneType"),
        (lambda e, p: e.encode(p, prompt="query: "), "option 'prompt' = 'query: ': this network does not support it"),
        (lambda e, p: e.encode(p, precision="int8"), "option 'precision' = 'int8'"),
        (lambda e, p: e.encode(p, batch_size=0), "batch_size is 0; give at least 1"),
        (lambda e, p: e.encode(p, colour="red"), "option 'colour' = 'red'"),
        (lambda e, p: e.encode([p.with_name("none.png")]), "none.png"),
        (lambda e, p: e.similarity(np.zeros((2, 3)), np.zeros((2, 12))), r"shapes \(2, 3\) and \(2, 12\)"),
        (lambda e, p: e.similarity_pairwise(np.zeros((2, 12)), np.zeros((3, 12))), "2 queries and 3 documents"),
    ],
)
def test_invalid_inputs_are_reported(encoder, image_files, call, said):
    with pytest.raises(InputError, match=said):
        call(encoder, image_files[0])


def test_queries_that_the_gpu_cannot_hold_are_one_line(encoder, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.\nGPU 0 has")

    monkeypatch.setattr(encoder.composer, "compose", full)
    with pytest.raises(InputError, match=r"^compose queries: a batch does not fit into the GPU's memory"):
        encoder.encode_query(["is red"])
