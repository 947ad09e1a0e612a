"""Draws a small pool in the authors' form of CC3M: `python -m demo.draw.pool demo_fiq --out data/pool/demo_fiq`."""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

from demo.draw.attributes import Garment, Scene, Thing, draw_thing
from demo.draw.captions import caption
from demo.draw.render import render
from demo.settings import DrawPool, PoolSize, read_settings
from spn4cir.errors import InputError
from spn4cir.files import atomic_folder
from spn4cir.progress import progress

KINDS: dict[str, type[Garment] | type[Scene]] = {"demo_fiq": Garment, "demo_cirr": Scene}
# Alt texts as web pages have them; {caption} names the attributes.
ALT_TEXTS: dict[type[Thing], tuple[str, ...]] = {
    Garment: (
        "{caption}",
        "{caption} on sale",
        "buy {caption} online , free delivery",
        "a model wears {caption} at fashion week",
        "outfit of the day : {caption}",
    ),
    Scene: (
        "{caption}",
        "{caption} royalty free clip art",
        "vector illustration of {caption}",
        "stock image : {caption}",
        "{caption} for the design of a logo",
    ),
}
# Close to lossless: the images are so small that JPEG's usual quality blurs their colours.
QUALITY = 95


def write_pool(dataset: str, size: PoolSize, root: Path) -> None:
    """Writes the pool of a data set to the folder `root`, whose earlier content is removed.

    Equal settings give equal pools. No image equals one of the data set: position, shade and noise are drawn from
    other seeds.
    """
    rng = random.Random(f"pool {dataset} {size.seed}")
    names = [(part, f"{part:05d}{number:04d}") for part in size.parts for number in range(size.images)]
    lines: dict[int, list[str]] = {part: [] for part in size.parts}
    with atomic_folder(root) as folder:
        (folder / "images").mkdir()
        for part, name in progress(names, len(names), f"draw pool {dataset}", "images"):
            thing = draw_thing(KINDS[dataset], rng)
            image = render(thing, f"{rng.getrandbits(64):x}")
            image.save(folder / "images" / f"{name}.jpg", quality=QUALITY, subsampling=0)
            lines[part].append(json.dumps(_record(name, thing, rng)) + "\n")
        for part, content in lines.items():
            (folder / f"part_{part}.data").write_text("".join(content), encoding="utf-8")


def _record(name: str, thing: Thing, rng: random.Random) -> dict[str, object]:
    """Returns the content of one line of a part file."""
    text = rng.choice(ALT_TEXTS[type(thing)]).format(caption=caption(thing, rng.choice((4, 5))))
    return {
        "url": f"https://pictures.example/{name}.jpg",
        "image": f"images/{name}.jpg",
        "caption": {"en": text},
    }


def main() -> None:
    """Draws one pool with the settings of `demo/params.yaml`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", choices=sorted(DrawPool.model_fields))
    parser.add_argument("--out", type=Path, required=True, help="folder of the pool; replaced if it exists")
    arguments = parser.parse_args()
    try:
        write_pool(arguments.dataset, getattr(read_settings().draw_pool, arguments.dataset), arguments.out)
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
