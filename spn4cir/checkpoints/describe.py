"""Description of a checkpoint: family, stage, sizes, and the pipelines of `params.yaml` that it fits."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spn4cir.checkpoints.open import open_checkpoint
from spn4cir.composers import COMPOSERS, composer_class
from spn4cir.composers.protocol import Composer, Options, Sizes, Tower
from spn4cir.config.params import OpenClipModel, Params

REST = "heads"


@dataclass(frozen=True)
class Description:
    """The properties of a checkpoint.

    Attributes:
        family: family of its network.
        stage: training stage, 1 or 2; None for a pretrained network.
        container: key of the state dict in the file, and prefix of its names.
        epoch: epoch after which it was written; None if the file does not contain it.
        sizes: sizes of the network; None if the family does not report them.
        parameters: number of parameters by tower, without the temperature.
        vocabulary: number of words of the tokenizer in the file; None if it contains none.
        fits: pipelines (`<dataset>-<family>`) whose network has these sizes, with the network's name.
        may_fit: pipelines of the family whose base model has sizes that `params.yaml` does not determine.
    """

    family: str
    stage: int | None
    container: tuple[str, str]
    epoch: int | None
    sizes: Sizes | None
    parameters: dict[str, int]
    vocabulary: int | None
    fits: dict[str, str]
    may_fit: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values, for JSON."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """Returns the lines of the printed description, as pairs of label and text."""
        key, prefix = self.container
        place = f"'{key}'" + (f", names begin with '{prefix}'" if prefix else "")
        total = sum(self.parameters.values())
        shares = ", ".join(f"{name} {count:,}" for name, count in self.parameters.items())
        networks = {network: [row for row in self.fits if self.fits[row] == network] for network in self.fits.values()}
        fits = "; ".join(f"{', '.join(rows)} ({network})" for network, rows in networks.items())
        may_fit = f"{', '.join(self.may_fit)} (params.yaml does not contain the sizes of these base models)"
        return [
            ("family", self.family),
            ("stage", "none, pretrained" if self.stage is None else str(self.stage)),
            ("container", place),
            ("epoch", "unknown" if self.epoch is None else str(self.epoch)),
            *(_size_lines(self.sizes) if self.sizes else []),
            ("parameters", f"{total:,}: {shares}"),
            ("vocabulary", "none in the file" if self.vocabulary is None else f"{self.vocabulary:,} words"),
            ("fits", fits or "no network that params.yaml names"),
            *([("may fit", may_fit)] if self.may_fit else []),
        ]


def _size_lines(sizes: Sizes) -> list[tuple[str, str]]:
    patches = "" if sizes.patch is None else f", patches of {sizes.patch} px"
    return [
        ("image size", f"{sizes.image_size} px{patches}"),
        ("image tower", _tower_line(sizes.image)),
        ("text tower", f"{_tower_line(sizes.text)}; {sizes.positions:,} positions, {sizes.words:,} word embeddings"),
        ("target", " x ".join(map(str, sizes.embedding))),
    ]


def _tower_line(tower: Tower) -> str:
    layers = "+".join(map(str, tower.layers)) if isinstance(tower.layers, tuple) else tower.layers
    return f"{tower.kind}, width {tower.width:,}, layers {layers}, heads {tower.heads} (assumed: no file contains it)"


def describe(path: Path, params: Params, family: str | None = None, options: Options | None = None) -> Description:
    """Reads a checkpoint once and describes it; this needs no tokenizer.

    Args:
        path: a published file, a file of this package, a hub folder, or the name of a pretrained network.
        params: the settings whose pipelines are compared with the checkpoint.
        family: the expected family, or a recipe of it; None detects the family.
        options: head widths that differ from the published ones.

    Raises:
        InputError: the file cannot be read or is of another family.
    """
    opened = open_checkpoint(path, family, options)
    checkpoint, composer = opened.checkpoint, opened.composer
    sizes = composer.sizes()
    rows = dict(_rows(params, checkpoint.family))
    return Description(
        family=checkpoint.family,
        stage=checkpoint.stage if opened.pretrained is None else None,
        container=(checkpoint.container.key, checkpoint.container.prefix),
        epoch=checkpoint.epoch,
        sizes=sizes,
        parameters=_count_parameters(composer),
        vocabulary=None if checkpoint.vocabulary is None else len(checkpoint.vocabulary),
        fits={row: name for row, (name, expected) in rows.items() if expected is not None and expected == sizes},
        may_fit=tuple(row for row, (_, expected) in rows.items() if expected is None),
    )


def _rows(params: Params, family: str) -> Iterator[tuple[str, tuple[str, Sizes | None]]]:
    """Yields the pipelines of a family, each with the name of its network and, if the settings imply them, its sizes.

    The sizes are known for a base model of open_clip, and for a published file, whose network the family knows.
    """
    for dataset, models in params.models.items():
        for recipe, model in models.stage1.items():
            if recipe not in _recipes(family):
                continue
            cls, settings = composer_class(recipe), params.checkpoint.get(dataset, {}).get(recipe)
            name = ""
            if isinstance(model, OpenClipModel):
                name = model.open_clip
            elif settings is not None and settings.source != "train":
                name = cls.backbone
            yield f"{dataset}-{recipe}", (name, cls.base_sizes(name) if name else None)


def _recipes(family: str) -> list[str]:
    """Returns the family and the recipes that use its files."""
    others = [name for name, entry in COMPOSERS.items() if not entry.containers]
    return [family, *(name for name in others if composer_class(name).family == family)]


def _count_parameters(composer: Composer) -> dict[str, int]:
    """Returns parameter counts by tower, in the order of `Composer.parts`, with the others last as `REST`."""
    counts = dict.fromkeys((*composer.parts, REST), 0)
    for name, parameter in composer.named_parameters():
        if name != "temperature":
            tower = next((tower for tower, begins in composer.parts.items() if name.startswith(begins)), REST)
            counts[tower] += parameter.numel()
    return {tower: count for tower, count in counts.items() if count}
