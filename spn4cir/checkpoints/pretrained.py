"""Pretrained CLIP networks by name: `open_clip:ARCHITECTURE/TAG`, `hf-hub:OWNER/NAME` and `local-dir:FOLDER`.

The files are downloaded into the hub's cache, which is also open_clip's, by `spn4cir.hub.fetch`. Without a network
open_clip's own download retries each file for 23 seconds, with a line for each try, before it fails.
"""

from collections.abc import Collection, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from spn4cir.composers.protocol import Composer
from spn4cir.config.params import LOCAL_NETWORK, NETWORK_CONFIG
from spn4cir.errors import InputError, some_names
from spn4cir.files import value_hash
from spn4cir.images.preprocess import Preprocess
from spn4cir.json_files import read_json

if TYPE_CHECKING:
    from open_clip.model import CLIP

    from spn4cir.hub.fetch import Fetched

# The family that composes these networks.
FAMILY = "clip"
EXAMPLE = "open_clip:ViT-B-32/openai"
_BUILT_IN, _HUB, _FOLDER = "open_clip:", "hf-hub:", LOCAL_NETWORK
_REMEDY = "or download the model's files by hand into a folder and name it as local-dir:FOLDER"
# Keys of open_clip's configuration of models with another text tower or another tokenizer than CLIP's.
_OTHER_MODEL = ("custom_text", "multimodal_cfg")
_OTHER_TEXT = ("hf_model_name", "hf_tokenizer_name", "tokenizer_kwargs")
_SHOWN = 10


class PretrainedName(NamedTuple):
    """The name of a pretrained network.

    Attributes:
        prefix: the prefix, with its colon.
        model: architecture, repository or absolute path of the folder.
        tag: pretraining tag of an architecture; empty otherwise.
    """

    prefix: str
    model: str
    tag: str

    @property
    def short(self) -> str:
        """The name without prefix, owner and parent folders, as in ViT-B-32-openai."""
        return "-".join(part for part in (Path(self.model).name, self.tag) if part)

    @property
    def public(self) -> str:
        """The name for files that leave this machine: without the parent folders of a folder."""
        return f"{self.prefix}{Path(self.model).name}" if self.prefix == _FOLDER else str(self)

    def __str__(self) -> str:
        return f"{self.prefix}{self.model}" + (f"/{self.tag}" if self.tag else "")


class Pretrained(NamedTuple):
    """A pretrained network.

    Attributes:
        network: the open_clip model, on the CPU, in float32 and eval mode.
        preprocess: converts a decoded image to its input.
    """

    network: "CLIP"
    preprocess: Preprocess


def pretrained_name(place: Path | str) -> PretrainedName | None:
    """Splits the name of a pretrained network; returns None for a path.

    Raises InputError for a name without its parts; for an architecture without a tag, the error lists the tags.
    """
    text = str(place).rstrip("/")
    prefix = next((prefix for prefix in (_BUILT_IN, _HUB, _FOLDER) if text.startswith(prefix)), None)
    if prefix is None:
        return None
    rest = text.removeprefix(prefix)
    if not rest:
        raise InputError(f"{text}: names no model; write it as {EXAMPLE}, hf-hub:OWNER/NAME or local-dir:FOLDER")
    if prefix == _BUILT_IN:
        return _built_in(rest)
    return PretrainedName(prefix, rest if prefix == _HUB else str(Path(rest).expanduser().absolute()), "")


def require_name(name: str) -> None:
    """Raises InputError unless a text is the name of a pretrained network."""
    if pretrained_name(name) is None:
        raise InputError(
            f"'{name}': is no name of a pretrained network, such as {EXAMPLE}, hf-hub:OWNER/NAME or local-dir:FOLDER; "
            "open a file or a folder with from_checkpoint, a folder for the hub that was uploaded with from_hub"
        )


def _built_in(rest: str) -> PretrainedName:
    """Splits ARCHITECTURE/TAG; open_clip also accepts `/` within an architecture, as in ViT-B/32."""
    import open_clip

    if (whole := rest.replace("/", "-")) in open_clip.list_models():
        tags = open_clip.list_pretrained_tags_by_model(whole)
        known = f"with one of its tags: {some_names(tags, _SHOWN)}" if tags else "but it has no pretrained weights"
        raise InputError(f"{_BUILT_IN}{rest}: names no tag; write it as {_BUILT_IN}{whole}/TAG, {known}")
    model, _, tag = rest.rpartition("/") if "/" in rest else (rest, "", "")
    return PretrainedName(_BUILT_IN, model.replace("/", "-"), tag)


def load_pretrained(name: PretrainedName) -> Pretrained:
    """Loads a pretrained network, and downloads its files unless the hub's cache contains them.

    Raises:
        InputError: the name is unknown, the download fails, the files are damaged, or family `clip` cannot compose the
            network: it has another text tower or tokenizer than CLIP's, or its input is not square.
    """
    from open_clip import get_model_preprocess_cfg
    from open_clip.model import CLIP

    base = _load_built_in(name) if name.prefix == _BUILT_IN else _load_folder(name)
    if not isinstance(base, CLIP):
        raise InputError(
            f"{name}: is a {type(base).__name__}, not a CLIP, which family '{FAMILY}' composes; choose another model"
        )
    size = base.visual.image_size
    height, width = size if isinstance(size, (tuple, list)) else (size, size)
    if height != width:
        raise InputError(f"{name}: reads images of {height} x {width} pixels, expected a square; choose another model")
    settings = get_model_preprocess_cfg(base)
    return Pretrained(base, Preprocess(int(height), mean=_channels(settings["mean"]), std=_channels(settings["std"])))


def _channels(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = map(float, values)
    return red, green, blue


def network_hash(name: PretrainedName, composer: Composer) -> str:
    """Returns the sha256 of a pretrained network: of its tensors, its preprocessing and its configuration.

    The configuration is that of a folder or of a repository in the cache; open_clip's architectures have fixed ones.
    """
    from huggingface_hub import try_to_load_from_cache

    from spn4cir.composers.encoding import tensors_hash

    configuration = None
    if name.prefix == _FOLDER:
        configuration = _configuration(name, Path(name.model))
    elif name.prefix == _HUB:
        configuration = _configuration(name, Path(str(try_to_load_from_cache(name.model, NETWORK_CONFIG))).parent)
    tensors = tensors_hash(sorted(composer.state_dict().items()))
    return value_hash([tensors, composer.preprocess.describe(), configuration])


def _load_built_in(name: PretrainedName) -> Any:
    """Loads a model of open_clip's list."""
    import open_clip

    from spn4cir.composers.openai_clip import create_open_clip

    _check_known(name)
    known = open_clip.get_pretrained_cfg(name.model, name.tag)
    repository, _, file = known.get("hf_hub", "").rpartition("/")
    # The tag, not the architecture, determines the activation: openai's weights have quick GELU under all names.
    return create_open_clip(
        str(name),
        name.model,
        pretrained=str(_fetch_weights(name, repository, file)) if repository else name.tag,
        force_quick_gelu=known.get("quick_gelu", False),
        force_preprocess_cfg={key: known[key] for key in ("mean", "std") if key in known},
    )


def _load_folder(name: PretrainedName) -> Any:
    """Loads the model of a folder in open_clip's form, or of a repository: the files of one commit, in the cache."""
    from spn4cir.composers.openai_clip import create_open_clip

    return create_open_clip(str(name), f"{_FOLDER}{find_folder(name)}")


def find_folder(name: PretrainedName) -> Path:
    """Returns the folder of a network: the named one, or that of the repository's commit in the hub's cache.

    Raises:
        InputError: the name is that of a built-in architecture, the download fails, the folder has no configuration, or
            family `clip` cannot compose the network.
    """
    if name.prefix == _BUILT_IN:
        raise InputError(
            f"{name}: is one of open_clip's own architectures, which has no folder; name one as local-dir:FOLDER"
        )
    settings = _fetch(name, name.model, NETWORK_CONFIG) if name.prefix == _HUB else None
    folder = settings.path.parent if settings else Path(name.model)
    _check_composable(name, _configuration(name, folder))
    if settings:
        _fetch_weights(name, name.model, "", settings.commit)
    return folder


def _check_known(name: PretrainedName) -> None:
    """Raises InputError for an unknown architecture or tag, with near names, and for one that cannot be composed."""
    import open_clip

    model = open_clip.get_model_config(name.model)
    if model is None:
        composable = [each for each in open_clip.list_models() if not _other_parts(open_clip.get_model_config(each))]
        known = [each for each in composable if open_clip.list_pretrained_tags_by_model(each)]
        raise InputError(
            f"{name}: open_clip has no architecture '{name.model}'; choose one: {_nearest(name.model, known)}"
        )
    _check_composable(name, model)
    if not open_clip.get_pretrained_cfg(name.model, name.tag):
        tags = open_clip.list_pretrained_tags_by_model(name.model)
        known_tags = f"choose from {_nearest(name.tag, tags)}" if tags else "it has none; choose another architecture"
        raise InputError(f"{name}: open_clip has no weights '{name.tag}' of '{name.model}'; {known_tags}")


def _nearest(name: str, known: Collection[str]) -> str:
    """Returns the known names, the most similar first."""
    return some_names(
        sorted(known, key=lambda each: SequenceMatcher(None, each.lower(), name.lower()).ratio(), reverse=True), _SHOWN
    )


def _other_parts(model: dict[str, Any]) -> list[str]:
    """Returns the keys of a configuration that family `clip` cannot compose."""
    text = model["text_cfg"]
    return [key for key in _OTHER_MODEL if model.get(key)] + [key for key in _OTHER_TEXT if text.get(key)]


def _check_composable(name: PretrainedName, model: dict[str, Any]) -> None:
    if keys := _other_parts(model):
        raise InputError(
            f"{name}: has another text tower or tokenizer than CLIP's (its configuration has {', '.join(keys)}), "
            f"which family '{FAMILY}' cannot compose; choose a CLIP with CLIP's tokenizer, such as {EXAMPLE}"
        )


def _configuration(name: PretrainedName, folder: Path) -> dict[str, Any]:
    """Returns the model's configuration in a folder. Raises InputError if it is absent or of another form."""
    if not (folder / NETWORK_CONFIG).is_file():
        problem = f"has no {NETWORK_CONFIG}" if folder.is_dir() else "no such folder"
        raise InputError(
            f"{name}: {problem}; expected a folder in open_clip's form, {NETWORK_CONFIG} and weights (a folder that "
            "`spn4cir export --to hub-folder` wrote is named by its path alone)"
        )
    content = read_json(folder / NETWORK_CONFIG)
    model = content.get("model_cfg") if isinstance(content, dict) else None
    if not isinstance(model, dict) or not all(isinstance(model.get(key), dict) for key in ("vision_cfg", "text_cfg")):
        raise InputError(f"{folder / NETWORK_CONFIG}: has no model_cfg with vision_cfg and text_cfg; download it again")
    return model


def _fetch_weights(name: PretrainedName, repository: str, file: str, revision: str = "main") -> Path:
    """Fetches the weights, as safetensors if the repository has them, as open_clip does.

    A form that the cache contains is preferred, so that no other one is looked up.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

    files = [str(Path(file).with_suffix(".safetensors")), file] if file else [HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME]
    files.sort(key=lambda each: not isinstance(try_to_load_from_cache(repository, each, revision=revision), str))
    try:
        return _fetch(name, repository, files[0], revision).path
    except InputError as error:
        if not isinstance(error.__cause__, EntryNotFoundError):
            raise
        return _fetch(name, repository, files[1], revision).path


def _fetch(name: PretrainedName, repository: str, file: str, revision: str = "main") -> "Fetched":
    from spn4cir.hub.fetch import fetch

    try:
        return fetch(repository, file, revision, remedy=_REMEDY)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error.__cause__
