"""A network as a folder in the hub's form: safetensors, settings as JSON, and the words that no package ships."""

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
from spn4cir.errors import InputError
from spn4cir.files import check_hash, read_json

LIBRARY: Literal["spn4cir"] = "spn4cir"
FORMAT: Literal[1] = 1
CONFIG, WEIGHTS, WORDS, CARD = "config.json", "model.safetensors", "vocab.txt", "README.md"
FILES = (CONFIG, WEIGHTS, WORDS, CARD)
_AGAIN = "export or download it again"


class Config(BaseModel):
    """What `config.json` holds.

    Attributes:
        library_name: whose folder it is.
        format: of the folder.
        version: of the package that wrote it.
        family: of the network.
        recipe: how it was taught, where that is another name than the family's.
        stage: 1 or 2.
        epoch: after which the weights were written; null: not told.
        sizes: what the network is built of; null: the family does not tell.
        vision_head_width: as it was given; null: the published one.
        text_head_width: the same of the text tower.
        preprocess: from a picture to the network's input.
        tokenizer: `vocab.txt`, or that the package brings its own.
        max_tokens: what the text tower reads.
        protocol: of the scores in the card; null: there are none.
        shared: other names of tensors, each with the name under which the file holds it.
        files: sha256 of the weights and of the words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    library_name: Literal["spn4cir"] = LIBRARY
    format: Literal[1] = FORMAT
    version: str
    family: str
    recipe: str | None
    stage: Annotated[int, Field(ge=1, le=2)]
    epoch: int | None
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
        """The recipe, or the family where there is no other name."""
        return self.recipe or self.family


def package_version() -> str:
    """Of this package."""
    return version(LIBRARY)


def is_hub_folder(place: Path) -> bool:
    """Whether a path is to be read as such a folder: it is one, or its file of weights."""
    return place.is_dir() or place.name == WEIGHTS


def weights_file(place: Path) -> Path:
    """The file with the weights, of a checkpoint file or a folder."""
    return place / WEIGHTS if place.is_dir() else place


def check_library(folder: Path) -> Mapping[str, Any]:
    """The content of a folder's `config.json`. Raises InputError where there is none, or one of another library."""
    if not (folder / CONFIG).is_file():
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
    """Raises InputError for a folder that is of another library, of another version, or damaged."""
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
            f"{folder / CONFIG}: files: holds hashes of {sorted(config.files)}, expected {sorted(expected)}; {_AGAIN}"
        )
    return config


def read_hub_folder(folder: Path) -> tuple[Checkpoint, Config]:
    """The weights under the network's own names, and the settings; every file is compared with its hash.

    Raises InputError for a folder that is no such export, or damaged.
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
    """How published files of the stage pack the weights. Raises InputError for an unknown family or recipe."""
    family, name = config.family, config.name
    found = [each for each in COMPOSERS[family].containers if each.stage == config.stage] if family in COMPOSERS else []
    if not found:
        raise InputError(f"{folder / CONFIG}: family '{family}' is not known; install the version that wrote it")
    if name not in COMPOSERS or composer_class(name).family != family:
        raise InputError(f"{folder / CONFIG}: '{name}' is no recipe of '{family}'; install the version that wrote it")
    return found[0]


def described(composer: Composer) -> dict[str, Any]:
    """What `config.json` says of the network that the weights make, as JSON has it."""
    sizes = composer.sizes()
    found = {
        "sizes": None if sizes is None else asdict(sizes),
        "preprocess": composer.preprocess.describe(),
        "max_tokens": composer.max_tokens,
    }
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


def check_described(folder: Path, config: Config, composer: Composer) -> None:
    """Refuses settings that are not those of the network: changed ones would have no effect."""
    for key, found in described(composer).items():
        if (told := getattr(config, key)) == found:
            continue
        if isinstance(told, dict) and isinstance(found, dict):
            name = min(name for name in told | found if told.get(name) != found.get(name))
            key, told, found = f"{key}.{name}", told.get(name), found.get(name)
        raise InputError(
            f"{folder / CONFIG}: {key}: is {told}, the network of these weights and head widths has {found}; "
            f"give no other head widths, or {_AGAIN}"
        )


def published_state(content: Mapping[str, Any], place: Container) -> dict[str, Tensor]:
    """The tensors of a published file's content by name, without the container's prefix."""
    return {name.removeprefix(place.prefix): tensor for name, tensor in content[place.key].items()}


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: is no safetensors file ({error}); {_AGAIN}") from None
