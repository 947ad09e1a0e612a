"""Trains the small image encoder.

Run as `python -m demo.models.encoder --images F --out F1 --out F2 --metrics encoder.json`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from demo.draw.images import KINDS, held_out, label_rows, read_images
from demo.models.training import FEATURE_SCALE, AttributeHeads, augmented, batches, train
from demo.settings import DemoParams, EncoderSettings, EncoderTraining, ImagesSettings, read_settings
from demo.wanted import judged
from spn4cir.errors import InputError
from spn4cir.files import atomic_file
from spn4cir.json_files import write_json
from spn4cir.positives.unicom import Unicom, UnicomSizes, load_unicom
from spn4cir.weights import HEAD_WIDTH


def encoder_sizes(settings: EncoderTraining, image_size: int) -> UnicomSizes:
    """Returns the sizes of the network: a smaller Unicom."""
    return UnicomSizes(
        image_size=image_size,
        patch_size=settings.patch_size,
        width=settings.width,
        depth=settings.layers,
        heads=max(settings.width // HEAD_WIDTH, 1),
        mlp_width=4 * settings.width,
        hidden_dim=settings.width,
        dim=settings.embed_dim,
    )


def train_encoder(model: Unicom, images: Path, settings: EncoderSettings) -> float:
    """Trains features that separate the values of attributes, as Unicom's separate clusters. Returns the last loss."""
    shown = list(read_images(images).values())
    generator = torch.Generator().manual_seed(settings.seed)
    heads = AttributeHeads(shown, settings.embed_dim)
    sources = [batches(len(kind.things), settings.batch_size // len(shown), generator) for kind in shown]

    def losses() -> Iterator[Tensor]:
        for rows in zip(*sources, strict=True):
            pixels = torch.cat([kind.pixels[chosen] for kind, chosen in zip(shown, rows, strict=True)])
            features = FEATURE_SCALE * functional.normalize(model(augmented(pixels, generator)), dim=1)
            things = [[kind.things[row] for row in chosen] for kind, chosen in zip(shown, rows, strict=True)]
            yield heads.loss(features, things)

    model.train()
    last = train([*model.parameters(), *heads.parameters()], losses(), settings.steps, settings.lr, "train encoder")
    model.eval()
    return last


def published_state(model: Unicom) -> dict[str, Tensor]:
    """Returns the state dict in half precision, as published files have it."""
    return {n: t.half() if t.is_floating_point() else t.clone() for n, t in model.state_dict().items()}


def save_encoder(model: Unicom, path: Path) -> None:
    """Writes the file in the published form."""
    with path.open("wb") as stream:  # torch.save(path) would write the name, which may contain a process id
        torch.save(published_state(model), stream)


@torch.no_grad()
def measure_encoder(path: Path, settings: ImagesSettings, neighbours: int) -> dict[str, Any]:
    """Measures the percentage of attributes that held-out images share with their nearest images, and with all others.

    Returns:
        The measurements by name: `<kind>_shared`, `<kind>_chance`, their ratio `<kind>_gain`, and the numbers of
        `neighbours` and `images`.
    """
    model = load_unicom(path)
    measured: dict[str, Any] = {"neighbours": neighbours, "images": 0}
    for kind in KINDS:
        things, images = held_out(kind, settings)
        measured["images"] += len(things)
        features = functional.normalize(model(torch.stack([model.preprocess(image) for image in images])), dim=1)
        near, chance = shared_attributes(features, label_rows(things), neighbours)
        name = kind.__name__.lower()
        measured[f"{name}_shared"], measured[f"{name}_chance"] = round(near, 2), round(chance, 2)
        measured[f"{name}_gain"] = round(near / chance, 3)
    return measured


def shared_attributes(
    features: Float[Tensor, "things dim"], labels: Int[Tensor, "things attributes"], neighbours: int
) -> tuple[float, float]:
    """Returns the percentage of equal attributes with the nearest other things, and with all other things."""
    equal = (labels[:, None] == labels[None]).float().mean(dim=2)
    scores = features @ features.T
    scores.fill_diagonal_(-torch.inf)
    nearest = scores.topk(min(neighbours, len(labels) - 1), dim=1).indices
    others = (equal.sum() - len(labels)) / (len(labels) * (len(labels) - 1))
    return 100 * equal.gather(1, nearest).mean().item(), 100 * others.item()


def make_encoder(settings: DemoParams, images: Path, outs: Sequence[Path], metrics: Path) -> None:
    """Trains and measures the encoder; writes it to each of the files `outs`."""
    torch.manual_seed(settings.encoder.seed)
    model = Unicom(encoder_sizes(settings.encoder, settings.images.image_size))
    train_encoder(model, images, settings.encoder)
    with atomic_file(outs[0]) as temporary:
        save_encoder(model, temporary)
        measured = measure_encoder(temporary, settings.images, settings.encoder.neighbours)
    wanted = {name: settings.encoder.wanted_gain for name in measured if name.endswith("_gain")}
    write_json(metrics, judged("encoder", measured, wanted), indent=2)
    for out in outs[1:]:
        with atomic_file(out) as temporary:
            shutil.copyfile(outs[0], temporary)


def main() -> None:
    """Trains the small encoder with the settings of `demo/params.yaml`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder written by demo.draw.images")
    parser.add_argument("--out", type=Path, action="append", required=True, help="the .pt file")
    parser.add_argument("--metrics", type=Path, required=True, help="JSON file of the measurements")
    arguments = parser.parse_args()
    try:
        make_encoder(read_settings(), arguments.images, arguments.out, arguments.metrics)
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
