"""Hub folders: the weights of a network as safetensors, settings as JSON, and the vocabulary of its tokenizer."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from spn4cir.checkpoints.published import Checkpoint
from spn4cir.composers import COMPOSERS, Container, composer_class
from spn4cir.composers.bert_tokenizer import folder_vocabulary
from spn4cir.composers.protocol import Composer
from spn4cir.config.base import first_problem
from spn4cir.config.params import LOCAL_NETWORK, NETWORK_CONFIG
from spn4cir.errors import InputError
from spn4cir.files import check_hash
from spn4cir.json_files import read_json

LIBRARY: Literal["spn4cir"] = "spn4cir"
FORMAT: Literal[1] = 1
CONFIG, WEIGHTS, WORDS, CARD = "config.json", "model.safetensors", "vocab.txt", "README.md"
FILES = (CONFIG, WEIGHTS, WORDS, CARD)
_AGAIN = "export or download it again"


class Config(BaseModel):
    """The content of `config.json`.

    Attributes:
        library_name: name of the library that wrote the folder.
        format: version of the folder's format.
        version: version of the package that wrote the folder.
        family: family of the network.
        recipe: training recipe, if its name differs from the family's.
        stage: training stage, 1 or 2.
        epoch: epoch after which the weights were written; null if unknown.
        pretrained: name of the pretrained network, if the weights were not trained further; null for trained weights.
        sizes: sizes of the network; null if the family does not report them.
        vision_head_width: width of an attention head of the image tower; null for the published one.
        text_head_width: width of an attention head of the text tower; null for the published one.
        preprocess: settings that convert an image to the network's input.
        tokenizer: `vocab.txt`, or a note that a package contains the tokenizer.
        max_tokens: maximum number of tokens that the text tower reads.
        protocol: protocol of the scores in the card; null without scores.
        shared: further names of tensors, each with the name of the tensor in the file.
        files: sha256 of the weights and of the vocabulary.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    library_name: Literal["spn4cir"] = LIBRARY
    format: Literal[1] = FORMAT
    version: str
    family: str
    recipe: str | None
    stage: Annotated[int, Field(ge=1, le=2)]
    epoch: int | None
    pretrained: str | None = None
    sizes: dict[str, Any] | None
    vision_head_width: Annotated[int, Field(ge=1)] | None
    text_head_width: Annotated[int, Field(ge=1)] | None
    preprocess: dict[str, Any]
    tokenizer: str
    max_tokens: int
    protocol: dict[str, Any] | None
    shared: dict[str, str]
    files: dict[str, str]

    @property
    def name(self) -> str:
        """The recipe, or the family if the recipe has no other name."""
        return self.recipe or self.family


def package_version() -> str:
    """Returns the version of this package."""
    return version(LIBRARY)


def is_hub_folder(place: Path) -> bool:
    """Returns whether a path is read as a hub folder: it is a folder, or the weights file of a hub folder."""
    return place.is_dir() or place.name == WEIGHTS


def weights_file(place: Path) -> Path:
    """Returns the weights file of a checkpoint file or a hub folder."""
    return place / WEIGHTS if place.is_dir() else place


def check_library(folder: Path) -> Mapping[str, Any]:
    """Reads a folder's `config.json`. Raises InputError if it is absent or of another library."""
    if not (folder / CONFIG).is_file():
        if (folder / NETWORK_CONFIG).is_file():
            raise InputError(f"{folder}: is a network in open_clip's form; name it as {LOCAL_NETWORK}{folder}")
        raise InputError(
            f"{folder}: is a folder without {CONFIG}; expected a checkpoint file (.pt), or a folder that "
            "`spn4cir export --to hub-folder` wrote"
        )
    content = read_json(folder / CONFIG)
    if not isinstance(content, dict) or content.get("library_name") != LIBRARY:
        raise InputError(
            f"{folder}: is a model of another library ({CONFIG} does not say library_name {LIBRARY}); expected a "
            "folder that `spn4cir export --to hub-folder` wrote"
        )
    return content


def read_config(folder: Path) -> Config:
    """Reads the settings. Raises InputError if the folder is of another library or format, or damaged."""
    content = check_library(folder)
    if (found := content.get("format")) != FORMAT:
        raise InputError(f"{folder}: is of format {found}, this version reads {FORMAT}; install the version for it")
    try:
        config = Config.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{folder / CONFIG}: {first_problem(error)}; {_AGAIN}") from None
    expected = {WEIGHTS, WORDS} if config.tokenizer == WORDS else {WEIGHTS}
    if config.files.keys() != expected:
        raise InputError(
            f"{folder / CONFIG}: files: has hashes of {sorted(config.files)}, expected {sorted(expected)}; {_AGAIN}"
        )
    return config


def read_hub_folder(folder: Path) -> tuple[Checkpoint, Config]:
    """Reads the weights and the settings, and compares every file with its hash.

    Raises InputError if the folder is not an export of this package or is damaged.
    """
    config = read_config(folder)
    for name, sha256 in config.files.items():
        check_hash(folder / name, sha256, _AGAIN)
    words = folder_vocabulary(folder) if WORDS in config.files else None
    place = container(config, folder)
    state = _read_tensors(folder / WEIGHTS)
    state |= {name: state[other] for name, other in config.shared.items() if other in state}
    return Checkpoint(config.family, config.stage, place, config.epoch, state, words), config


def container(config: Config, folder: Path) -> Container:
    """Returns the container of published files of the stage. Raises InputError for an unknown family or recipe."""
    family, name = config.family, config.name
    found = [each for each in COMPOSERS[family].containers if each.stage == config.stage] if family in COMPOSERS else []
    if not found:
        raise InputError(f"{folder / CONFIG}: family '{family}' is not known; install the version that wrote it")
    if name not in COMPOSERS or composer_class(name).family != family:
        raise InputError(
            f"{folder / CONFIG}: '{name}' is not a recipe of '{family}'; install the version that wrote it"
        )
    return found[0]


def described(composer: Composer) -> dict[str, Any]:
    """Returns the entries of `config.json` that describe the network, as JSON values."""
    sizes = composer.sizes()
    found = {
        "sizes": None if sizes is None else asdict(sizes),
        "preprocess": composer.preprocess.describe(),
        "max_tokens": composer.max_tokens,
    }
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


def check_described(folder: Path, config: Config, composer: Composer) -> None:
    """Raises InputError if settings differ from the network's, because changed settings would have no effect."""
    for key, found in described(composer).items():
        if (stated := getattr(config, key)) == found:
            continue
        if isinstance(stated, dict) and isinstance(found, dict):
            name = min(name for name in stated | found if stated.get(name) != found.get(name))
            key, stated, found = f"{key}.{name}", stated.get(name), found.get(name)
        raise InputError(
            f"{folder / CONFIG}: {key}: is {stated}, the network of these weights and head widths has {found}; "
            f"give no other head widths, or {_AGAIN}"
        )


def published_state(content: Mapping[str, Any], place: Container) -> dict[str, Tensor]:
    """Returns the tensors in the content of a published file, by name without the container's prefix."""
    return {name.removeprefix(place.prefix): tensor for name, tensor in content[place.key].items()}


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: is not a safetensors file ({error}); {_AGAIN}") from None
