"""The encoder: queries, documents and scores of every family equal those of its network."""

from pathlib import Path

import pytest
import torch

from spn4cir.errors import InputError
from spn4cir.images.decoding import open_image
from spn4cir.search.encoder import Encoder
from tests.conformance.builders import Subject, builder
from tests.helpers.layouts import draw

TEXTS = ["is red", "has longer sleeves"]


def test_embeddings_and_scores_are_the_networks(first: Subject, tmp_path: Path) -> None:
    options, network = builder(first.family).options, first.network
    widths = {"vision_head_width": options.vision_head_width, "text_head_width": options.text_head_width}
    encoder = Encoder.from_checkpoint(first.published, first.family, **widths, device="cpu")
    paths = [draw(tmp_path / f"{number}.png", number) for number in range(2)]
    pairs = [{"image": path, "text": text} for path, text in zip(paths, TEXTS, strict=True)]
    queries = encoder.encode_query([*pairs, *TEXTS], convert_to_tensor=True)
    documents = encoder.encode_document(paths, convert_to_tensor=True)
    pixels = torch.stack([network.preprocess(image) for image in map(open_image, paths)])
    with torch.no_grad():
        reference, target = network.encode_image(pixels)
        composed = network.compose(torch.cat([reference, torch.zeros_like(reference)]), TEXTS * 2)
        assert torch.allclose(queries, composed, atol=1e-5)
        assert torch.allclose(documents, target, atol=1e-5)
        assert torch.allclose(encoder.similarity(queries, documents), network.score(composed, target), atol=1e-5)
    assert (encoder.tokens, encoder.dim) == (target.shape[1:-1].numel(), target.shape[-1])
    if encoder.tokens > 1:
        with pytest.raises(InputError, match="differ in shape"):
            encoder.encode([paths[0], pairs[0]])
        assert encoder.similarity_fn_name == "MaxSim"
