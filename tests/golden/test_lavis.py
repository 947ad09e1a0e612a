"""With published names and shapes and drawn weights our networks give the outputs of LAVIS's own code (tests/lavis)."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spn4cir.composers.bert_tokenizer import Tokens
from spn4cir.composers.blip import BlipComposer
from spn4cir.composers.blip2 import Blip2Composer
from spn4cir.composers.protocol import Options
from tests.lavis.weights import state

FOLDER = Path(__file__).parent / "lavis"
TOLERANCE = {"rtol": 0.0, "atol": 1e-4}


def golden(family: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Returns the weights by their published names, and the inputs and outputs."""
    with np.load(FOLDER / f"{family}.npz") as stored:
        arrays = {name: stored[name] for name in stored}
    weights = state(arrays.pop("names"), arrays.pop("shapes"))
    return tensors(weights), tensors(arrays)


def tensors(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def test_blip_answers_as_lavis_does() -> None:
    """Compares reference tokens, target and query, for the ids and masks that LAVIS received."""
    weights, stored = golden("blip")
    composer = BlipComposer.from_state(weights, 1, "blip.npz", Options())
    with torch.no_grad():
        features = composer.encode_image(stored["images"])
        text = Tokens(stored["input_ids"], stored["attention_mask"])
        query = composer.query(features.reference[stored["reference_index"]], text)
    torch.testing.assert_close(features.reference, stored["image_tokens"], **TOLERANCE)
    torch.testing.assert_close(features.target, stored["target"], **TOLERANCE)
    torch.testing.assert_close(query, stored["query"], **TOLERANCE)


def test_blip2_answers_as_lavis_does() -> None:
    """Also the fusion, which the second pass reads."""
    weights, stored = golden("blip2")
    composer = Blip2Composer.from_state(weights, 1, "blip2.npz", Options())
    with torch.no_grad():
        features = composer.encode_image(stored["images"])
        text = Tokens(stored["input_ids"], stored["attention_mask"])
        reference = features.reference[stored["reference_index"]]
        fusion, query = composer.fuse(reference, text), composer.query(reference, text)
    torch.testing.assert_close(features.reference, stored["image_tokens"], **TOLERANCE)
    torch.testing.assert_close(features.target, stored["target"], **TOLERANCE)
    torch.testing.assert_close(fusion, stored["fusion"], **TOLERANCE)
    torch.testing.assert_close(query, stored["query"], **TOLERANCE)
