"""A training of one data set of images: its settings in `params.yaml`, and the models that its project links."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from spn4cir.config.params import LOCAL_NETWORK
from spn4cir.projects.set_values import KeyPath

# The folder of a local base network, below `data/models/<dataset>/baselines`.
_BASE = "base"


@dataclass(frozen=True)
class Model:
    """A model of a training.

    Attributes:
        name: its name for messages.
        setting: its value in `params.yaml`.
        origin: its folder or file on this machine, to which the project gets a link; None for a model that the hub or
            open_clip or `urls` serve.
        urls: base URLs of servers of the model; they are written as an endpoint of the project.
    """

    name: str
    setting: Mapping[str, Any]
    origin: Path | None = None
    urls: tuple[str, ...] = ()


@dataclass(frozen=True)
class Generator:
    """The models that generate triplets."""

    captioner: Model
    encoder: Model


@dataclass(frozen=True)
class Recipe:
    """A training.

    Attributes:
        folder: the folder of images.
        annotations: CSV or parquet file of triplets; None for no annotations.
        family: the model family.
        base: the network that stage 1 begins with.
        generator: None trains on the annotations alone.
        missing: whether images that cannot be decoded stop the training or are left out.
        epochs: epochs of each stage; None for the published numbers.
    """

    folder: Path
    annotations: Path | None
    family: str
    base: Model
    generator: Generator | None
    missing: Literal["error", "skip"]
    epochs: int | None

    @property
    def generated_only(self) -> bool:
        """Whether the family learns from generated triplets alone."""
        return self.family == "zs"

    def values(self, name: str) -> dict[KeyPath, Any]:
        """Returns the settings of the data set `name` that differ from the published ones, by key path."""
        values: dict[KeyPath, Any] = {
            ("run", "models"): [self.family],
            ("datasets", name, "missing"): self.missing,
            ("models", name, "captioner"): self.generator and self.generator.captioner.setting,
            ("models", name, "encoder"): self.generator and self.generator.encoder.setting,
            ("models", name, "stage1", self.family): self.base.setting,
            ("checkpoint", name, self.family, "source"): "train",
        }
        if self.generator is None:
            values[("triplets", name, self.family, "source")] = "none"
            values[("train", name, self.family, "positives")] = "annotated"
        if self.epochs is not None:
            values[("checkpoint", name, self.family, "train", "epochs")] = self.epochs
            values[("train", name, self.family, "epochs")] = self.epochs
        return values

    def endpoints(self) -> dict[KeyPath, Any]:
        """Returns the settings of servers, by key path; they may differ each time that the training continues."""
        captioner = self.generator and self.generator.captioner
        if not captioner or not captioner.urls:
            return {}
        return {("machine", "endpoints", captioner.setting["served"]): list(captioner.urls)}

    def baselines(self, name: str) -> dict[KeyPath, Any]:
        """Returns the settings by which the base network is scored without training, which needs annotated queries."""
        if self.annotations is None:
            return {}
        network = f"{LOCAL_NETWORK}{_BASE}" if self._is_local else self.base.name
        return {("baselines", name, "networks"): [network]}

    def baseline_links(self) -> dict[str, Path]:
        """Returns the files of a local base network, by their places below `data/models/<dataset>`.

        DVC watches what links to files lead to, but nothing behind a link to a folder within a dependency.
        """
        if self.annotations is None or not self._is_local or self.base.origin is None:
            return {}
        return {f"baselines/{_BASE}/{file.name}": file for file in self.base.origin.iterdir() if file.is_file()}

    @property
    def _is_local(self) -> bool:
        return self.base.name.startswith(LOCAL_NETWORK)

    def links(self) -> dict[str, Path]:
        """Returns the models on this machine, by their places below `data/models/<dataset>`."""
        places = {f"stage1/{self.family}": self.base.origin}
        if self.generator is not None:
            places["captioner"] = self.generator.captioner.origin
            encoder = self.generator.encoder.origin
            places[f"encoder/{encoder.name if encoder else ''}"] = encoder
        return {place: origin for place, origin in places.items() if origin is not None}

    def lines(self, continued: bool = False) -> list[str]:
        """Returns lines that describe the training; `continued` is whether its project existed before."""
        if self.generator is None:
            triplets = "the annotated triplets alone; give --captioner and --encoder to generate more"
        else:
            more = "generated triplets" if self.generated_only else "the annotated triplets and generated ones"
            triplets = f"{more}: captions by {self.generator.captioner.name}, partners by {self.generator.encoder.name}"
        unchanged = "epochs as in the project's params.yaml" if continued else "epochs as published"
        epochs = unchanged if self.epochs is None else f"epochs of each stage: {self.epochs}"
        return [
            f"  recipe      family {self.family}: stage 1 from {self.base.name}, stage 2 against the bank; {epochs}",
            f"  positives   {triplets}",
        ]
