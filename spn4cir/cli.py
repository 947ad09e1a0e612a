"""The command line: arguments only. Heavy modules are imported inside the commands, so that help comes at once."""

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer
from typer.core import TyperGroup

from spn4cir.errors import InputError

if TYPE_CHECKING:
    import torch

    from spn4cir.composers.protocol import Composer
    from spn4cir.datasets.protocol import Layout
    from spn4cir.params import Params

INTERRUPTED = 130


class OneLine(TyperGroup):
    """Ends a failed command with one line on stderr and status 1, Ctrl-C with status 130; never with a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        try:
            value = super().invoke(ctx)
            sys.stdout.flush()  # a closed pipe is met here, not at the interpreter's end
            return value
        except InputError as error:
            _fail(str(error))
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            _fail(f"{error.filename or 'input or output'}: {error.strerror or error}; check the path and the disk")
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None


def _example(command: str) -> str:
    r"""The end of a command's help; `\b` keeps its lines as they are."""
    return f"\b\nExample:\n  {command}"


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(1)


app = typer.Typer(
    cls=OneLine,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Composed image retrieval: find the image that an image and a text ask for. Each command works in any folder; "
    "the pipeline that trains the networks is run by DVC (see the README).",
)

LayoutName = Annotated[str, typer.Option("--layout", metavar="fashioniq|cirr", help="How the folder is laid out.")]
Root = Annotated[Path, typer.Option("--root", metavar="FOLDER", help="Root folder of the data set; it is only read.")]
Weights = Annotated[
    Path,
    typer.Option("--checkpoint", metavar="FILE", help="Weights, .pt: a published file of either stage, or your own."),
]
Family = Annotated[
    str | None,
    typer.Option("--family", metavar="clip", help="Model family. Default: the one that the checkpoint tells."),
]
Missing = Annotated[
    Literal["error", "skip"] | None,
    typer.Option("--missing", help="Images that are absent: stop, or leave their triplets out and say how many."),
]
Dataset = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar="NAME",
        help="Take this data set's settings from the params.yaml in reach. Default: the layout's published settings.",
    ),
]
Device = Annotated[
    str | None, typer.Option("--device", metavar="auto|cpu|cuda", help="Default: machine.device of params.yaml.")
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", metavar="N", min=0, help="Processes that decode images. Default: machine.workers of params.yaml."
    ),
]


def _machine(device: str | None, workers: int | None) -> tuple["Params", "torch.device", int]:
    """The settings in reach, and where the work runs: as asked, else as they say."""
    from spn4cir.device import choose_device
    from spn4cir.params import find_params

    params = find_params(Path.cwd())
    machine = params.machine
    return params, choose_device(device or machine.device), machine.workers if workers is None else workers


def _layout(params: "Params", name: str, root: Path, dataset: str | None, missing: str | None) -> tuple["Layout", str]:
    """The data set, and the name under which its settings stand in `params`."""
    from spn4cir.datasets import open_layout
    from spn4cir.params import of_dataset

    published = open_layout(name, root, "error").published
    settings = of_dataset(params.datasets, dataset or published, "datasets")
    if dataset and settings.layout != name:
        raise InputError(f"data set '{dataset}' has layout {settings.layout}, not {name}; name another one of the two")
    rule = cast(Literal["error", "skip"], missing or settings.missing)
    return open_layout(name, root, rule), dataset or published


def _composer(checkpoint: Path, family: str | None, device: "torch.device") -> "Composer":
    from spn4cir.checkpoints import load_composer
    from spn4cir.composers import composer_class

    if family is not None:
        composer_class(family)
    return load_composer(checkpoint, family).to(device)


def _check_place(path: Path, folder: bool = False) -> None:
    """Refuses a place that cannot be written, before the work rather than after it."""
    if path.exists() and path.is_dir() != folder:
        kinds = ("file", "folder")
        raise InputError(f"{path}: is a {kinds[not folder]}; give the name of a {kinds[folder]} to write")
    standing = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
    if not os.access(standing, os.W_OK) or (standing.is_file() and standing != path.absolute()):
        raise InputError(f"{path}: {standing} cannot be written to; choose another place")


@app.command(epilog=_example("spn4cir dedup --layout fashioniq --root ~/fashion-iq --out optimized_images.json"))
def dedup(
    layout: LayoutName,
    root: Root,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The JSON file to write.")],
    missing: Missing = None,
    dataset: Dataset = None,
    workers: Workers = None,
) -> None:
    """Find the training images that are equal, pixel by pixel.

    Reads the images that the annotated training triplets name. Writes optimized_images.json in the published form: the
    names that are kept, their paths, and the row of every name.
    """
    from spn4cir.dedup import deduplicate, write_optimized_images
    from spn4cir.params import find_params

    _check_place(out)
    params = find_params(Path.cwd())
    opened, _ = _layout(params, layout, root, dataset, missing)
    unique = deduplicate(opened.training_gallery(), params.machine.workers if workers is None else workers)
    write_optimized_images(unique, out)
    print(f"{out}: {len(unique.row)} images, {len(unique.row) - len(unique.gallery)} of them duplicates")


@app.command(epilog=_example("spn4cir validate --layout cirr --root ~/cirr --checkpoint best.pt --json metrics.json"))
def validate(
    layout: LayoutName,
    root: Root,
    checkpoint: Weights,
    json: Annotated[Path, typer.Option("--json", metavar="FILE", help="The metrics file to write.")],
    family: Family = None,
    missing: Missing = None,
    dataset: Dataset = None,
    device: Device = None,
    workers: Workers = None,
) -> None:
    """Score a checkpoint on the validation split.

    Reads the val captions, split files and images. Writes a JSON file: recalls in percent under flat keys, then the
    protocol and the counts behind them, and the scores over alternative galleries. Prints the recalls.
    """
    from spn4cir.evaluation import encode_splits, evaluate, metrics_file
    from spn4cir.files import write_json
    from spn4cir.params import of_family

    _check_place(json)
    params, place, processes = _machine(device, workers)
    opened, name = _layout(params, layout, root, dataset, missing)
    composer = _composer(checkpoint, family, place)
    settings = of_family(params.validate_, name, composer.family, "validate")
    splits = opened.evaluation_splits()
    images = encode_splits(composer, splits, settings, processes, place)
    evaluation = evaluate(composer, opened, splits, images, settings, place)
    write_json(json, metrics_file(evaluation, opened, settings, composer), indent=2)
    for key, value in evaluation.scores.items():
        print(f"{key:<24} {value:6.2f}")
    print(f"{json}: written")


@app.command(epilog=_example("spn4cir submit --root ~/cirr --checkpoint best.pt --name mine --out submission"))
def submit(
    root: Root,
    checkpoint: Weights,
    name: Annotated[str, typer.Option("--name", help="Ends the names of both files; letters, digits, '.', '_', '-'.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the two files go.")],
    family: Family = None,
    missing: Missing = None,
    dataset: Dataset = None,
    device: Device = None,
    workers: Workers = None,
) -> None:
    """Write the two files for CIRR's test server.

    Reads CIRR's test1 captions, split file and images. Writes recall_submission_NAME.json and
    recall_subset_submission_NAME.json, checked. Hand them in at https://cirr.cecs.anu.edu.au/test_process/.
    """
    from spn4cir.params import of_family
    from spn4cir.submission import check_name, predict, write_submission

    check_name(name)
    _check_place(out, folder=True)
    params, place, processes = _machine(device, workers)
    opened, settings_name = _layout(params, "cirr", root, dataset, missing)
    composer = _composer(checkpoint, family, place)
    settings = of_family(params.validate_, settings_name, composer.family, "validate")
    found = predict(composer, opened.test_split(), settings, processes, place)
    queries, names = opened.test_queries()
    for path in write_submission(found, out, name, queries, names):
        print(f"{path}: written, {len(queries)} queries")


@app.command(epilog=_example("spn4cir check-submission submission/recall_submission_mine.json --root ~/cirr"))
def check_submission(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The JSON file to check.")],
    root: Root,
) -> None:
    """Check a submission file before you hand it in.

    Reads FILE and, of the CIRR folder, only the test1 captions and split file: no images are needed. Prints 'ok', or
    what is wrong.
    """
    from spn4cir.datasets import open_layout
    from spn4cir.submission import NAMES, check_submission

    queries, names = open_layout("cirr", root, "error").test_queries()
    metric = check_submission(file, queries, names)
    print(f"ok: {file} has metric {metric}: {len(queries)} queries with {NAMES[metric]} names each")


@app.command(
    epilog=_example(
        'spn4cir search --checkpoint best.pt --gallery ~/dresses --image a.jpg --text "is longer" --out sheet.png'
    )
)
def search(
    checkpoint: Weights,
    gallery: Annotated[Path, typer.Option("--gallery", metavar="FOLDER", help="Images to search, sub-folders too.")],
    image: Annotated[Path, typer.Option("--image", metavar="FILE", help="The query image.")],
    text: Annotated[str, typer.Option("--text", help="What is to be different, as in 'is red with long sleeves'.")],
    k: Annotated[int, typer.Option("-k", metavar="N", min=1, help="How many to list.")] = 10,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Draw them into this PNG.")] = None,
    family: Family = None,
    device: Device = None,
    workers: Workers = None,
) -> None:
    """Find the images of a folder that an image and a text ask for.

    Reads the images (.png .jpg .jpeg .webp .bmp .gif). Prints rank, name and score, best first, and with --out draws
    them. The query image itself is left out, also under another name.
    """
    from spn4cir.search import draw_found, folder_gallery, search

    if out is not None:
        _check_place(out)
    _, place, processes = _machine(device, workers)
    images = folder_gallery(gallery)
    composer = _composer(checkpoint, family, place)
    found = search(composer, images, image, text, k, processes, place)
    width = max(len(each.name) for each in found)
    for rank, each in enumerate(found, start=1):
        print(f"{rank:>4}  {each.name:<{width}}  {each.score:7.4f}")
    if out is not None:
        draw_found(found, image, text, out)
        print(f"{out}: written")


@app.command(epilog=_example("spn4cir add-dataset mine --layout cirr --path ~/my-pictures --like demo_cirr"))
def add_dataset(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it; letters, digits, '_' and '-'.")],
    layout: LayoutName,
    path: Annotated[Path, typer.Option("--path", metavar="FOLDER", help="Where the data lie; they are only read.")],
    like: Annotated[
        str | None,
        typer.Option("--like", metavar="OTHER", help="Copy this data set's settings. Default: the published ones."),
    ] = None,
    pool: Annotated[
        Path | None,
        typer.Option("--pool", metavar="FOLDER", help="A CC3M folder: what the family zs_cc draws its triplets from."),
    ] = None,
) -> None:
    """Make a folder of images and captions a data set of the pipeline.

    Run it where params.yaml and dvc.yaml lie. Links the folder at data/raw/NAME, makes the model folders under
    data/models/NAME (with the local models of OTHER), and copies OTHER's settings to NAME in params.yaml. Then says
    what is in the folder and what to type next. Running it again changes nothing.
    """
    from spn4cir.adding import add_dataset

    print(add_dataset(Path(), name, layout, path, like, pool))


def main() -> None:
    """The console script."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is loaded: spinning threads starve others
    app(prog_name="spn4cir")


if __name__ == "__main__":
    main()
