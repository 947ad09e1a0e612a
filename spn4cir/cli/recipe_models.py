"""Finds the models of a training by the names on the command line, and checks them before anything long begins."""

from pathlib import Path

from spn4cir.config.machine import url_fault
from spn4cir.errors import InputError, masked_url
from spn4cir.projects.models import UNICOM_ORIGIN
from spn4cir.projects.recipe import Generator, Model

LLAVA = "llava-hf/llava-1.5-7b-hf"
# The name of the captioner's servers in the settings of a project.
_ENDPOINT = "captioner"


def find_base(name: str) -> Model:
    """Returns the network that stage 1 begins with.

    Raises InputError for a name that is none of a pretrained network, or whose files cannot be had.
    """
    from spn4cir.checkpoints.pretrained import EXAMPLE, find_folder, pretrained_name

    found = pretrained_name(name)
    if found is None:
        raise InputError(f"--base {name}: expected a name such as {EXAMPLE}, hf-hub:OWNER/NAME or local-dir:FOLDER")
    if found.tag:
        return Model(str(found), {"open_clip": found.model, "tag": found.tag})
    return Model(str(found), {"local": "."}, find_folder(found).absolute())


def check_base(base: Model, family: str) -> None:
    """Loads the network, so that one that the family cannot train is refused.

    A network of open_clip's list is downloaded into the cache here: the hub's own line says why it cannot be had.

    Raises InputError if it cannot be loaded or is of another kind.
    """
    from spn4cir.checkpoints.pretrained import load_pretrained, pretrained_name
    from spn4cir.composers import composer_class

    if base.origin is None and (name := pretrained_name(base.name)):
        load_pretrained(name)
    model = str(base.origin) if base.origin else base.setting["open_clip"]
    composer_class(family).from_base(model, base.setting.get("tag"))


def find_generator(
    captioner: str | None, urls: tuple[str, ...], encoder: Path | None, needed: bool
) -> Generator | None:
    """Returns the models that generate triplets; None if none is given and none is needed.

    Args:
        captioner: a folder, a hub id, or the model's name at the servers.
        urls: base URLs of servers of the captioner.
        encoder: file or folder of the image encoder.
        needed: whether the family learns from generated triplets alone.

    Raises:
        InputError: a model is needed and not given, or is absent; or a URL is not one of a server.
    """
    if captioner is None and encoder is None and not urls and not needed:
        return None
    if encoder is None:
        raise InputError(
            f"triplets are generated with a captioner and an image encoder: give --encoder FILE, {UNICOM_ORIGIN}; or "
            "give --annotations FILE without --captioner, to learn from annotated triplets alone"
        )
    found = _served(captioner or LLAVA, urls) if urls else _captioner(captioner or LLAVA)
    return Generator(found, _encoder(encoder.expanduser().absolute()))


def check_generator(generator: Generator) -> None:
    """Raises InputError if the captioner is no LLaVA or cannot be had or asked, or the encoder is no Unicom."""
    from spn4cir.positives.unicom import load_unicom

    if generator.captioner.urls:
        _ask(generator.captioner)
    else:
        _check_llava(generator.captioner)
    assert generator.encoder.origin is not None, "an encoder is a file"
    load_unicom(generator.encoder.origin)


def _ask(captioner: Model) -> None:
    """Asks a served captioner about an image. Raises InputError if it gives no answer."""
    from PIL import Image

    from spn4cir.served.client import ServedModel
    from spn4cir.served.messages import ChatRequest, jpeg

    served = ServedModel(captioner.setting["served"], captioner.urls, captioner.name, concurrency=1)
    image = jpeg(Image.new("RGB", (64, 64)))
    list(served.answers([ChatRequest("describe the image", images=(image,), max_tokens=1)]))


def _check_llava(captioner: Model) -> None:
    from spn4cir.hub.fetch import fetch
    from spn4cir.json_files import read_json

    if captioner.origin is None:
        config = fetch(captioner.name, "config.json", "main", remedy="or give --captioner FOLDER").path
    else:
        config = captioner.origin / "config.json"
    content = read_json(config)
    if not isinstance(content, dict) or content.get("model_type") != "llava":
        raise InputError(f"{captioner.name}: is no LLaVA in transformers' form (model_type); give another --captioner")


def _served(name: str, urls: tuple[str, ...]) -> Model:
    for url in urls:
        if fault := url_fault(url):
            raise InputError(f"--captioner-url {masked_url(url)}: {fault}")
    return Model(name, {"served": _ENDPOINT, "model": name}, urls=urls)


def _captioner(name: str) -> Model:
    folder = Path(name).expanduser().absolute()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InputError(f"{folder}: contains no config.json; give the folder of a LLaVA by --captioner")
        return Model(name, {"local": "."}, folder)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise InputError(f"--captioner {name}: no such folder; give the folder of a LLaVA, or a hub name like {LLAVA}")
    return Model(name, {"hub": name})


def _encoder(path: Path) -> Model:
    if path.is_dir():
        files = sorted(path.glob("*.pt"))
        if len(files) != 1:
            raise InputError(
                f"--encoder {path}: contains {len(files)} files *.pt, expected one; give the file: {UNICOM_ORIGIN}"
            )
        (path,) = files
    if not path.is_file():
        raise InputError(f"--encoder {path}: no such file; give {UNICOM_ORIGIN}")
    return Model(path.name, {"local": path.name}, path)
