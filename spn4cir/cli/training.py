"""The command `train`."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from spn4cir.cli.groups import command
from spn4cir.cli.options import PRETRAINED, Missing

if TYPE_CHECKING:
    from spn4cir.projects.recipe import Recipe

TrainedFamily = Literal["clip", "tgcir", "zs"]
BASE = "open_clip:ViT-B-32/openai"


@command("spn4cir train ~/shop --annotations ~/shop/triplets.csv --base open_clip:ViT-B-32/openai")
def train(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="The folder of images, with sub-folders; it is only read.")
    ],
    annotations: Annotated[
        Path | None,
        typer.Option(
            "--annotations",
            metavar="FILE",
            help="A CSV or parquet file with the columns reference, target, text[, split, group]. Default: none, "
            "triplets are generated.",
        ),
    ] = None,
    family: Annotated[
        TrainedFamily | None,
        typer.Option("--family", help="Model family. Default: clip with annotations, else zs, which needs none."),
    ] = None,
    base: Annotated[
        str, typer.Option("--base", metavar="NAME", help=f"The network that stage 1 begins with: {PRETRAINED}.")
    ] = BASE,
    captioner: Annotated[
        str | None,
        typer.Option(
            "--captioner",
            metavar="FOLDER|ID",
            help="The LLaVA that captions the images: a folder or a hub id. With annotations, it and --encoder add "
            "generated triplets. Default without annotations: llava-hf/llava-1.5-7b-hf.",
        ),
    ] = None,
    captioner_url: Annotated[
        list[str] | None,
        typer.Option(
            "--captioner-url",
            metavar="URL",
            help="A server of the captioner with OpenAI's interface, as in http://127.0.0.1:8000/v1; --captioner is "
            "then the model's name there. Repeat it for several servers.",
        ),
    ] = None,
    encoder: Annotated[
        Path | None,
        typer.Option("--encoder", metavar="FILE", help="Unicom's weights, which find partners of the images."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The project to write. Default: NAME-spn4cir in this folder."),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", metavar="N", min=1, help="Epochs of each stage. Default: the published numbers."),
    ] = None,
    missing: Missing = None,
) -> None:
    """Train a network on a folder of images, with or without annotations.

    Makes a project for DVC in DIR, with the settings that fit the folder, and runs its pipeline. Prints where the
    checkpoint and the report are, and the commands that search the folder. The same command again continues a run that
    was interrupted. DIR is an ordinary project: change its params.yaml and run dvc repro or dvc exp run in it.
    """
    from spn4cir.cli.recipe_models import find_base, find_generator
    from spn4cir.errors import InputError
    from spn4cir.projects.project import absolute
    from spn4cir.projects.recipe import Recipe
    from spn4cir.projects.train_project import (
        annotations_changed,
        commit_run,
        name_of,
        note_annotations,
        reproduce,
        require_tools,
    )

    require_tools()
    chosen = family or ("zs" if annotations is None else "clip")
    if annotations is None and chosen != "zs":
        raise InputError(f"--family {chosen}: learns from annotated triplets; give --annotations FILE, or --family zs")
    generator = find_generator(captioner, tuple(captioner_url or ()), encoder, needed=chosen == "zs")
    place = None if annotations is None else absolute(annotations)
    recipe = Recipe(absolute(folder), place, chosen, find_base(base), generator, missing or "error", epochs)
    name = name_of(recipe.folder)
    project = out or Path(f"{name}-spn4cir")
    _open(project, name, recipe)
    if changed := annotations_changed(project, recipe):
        print(f"{recipe.annotations}: changed since the last run, so every stage runs again")
    reproduce(project, force=changed)
    note_annotations(project, recipe)
    commit_run(project, f"Train {name} {chosen}")
    print("\n".join(_results(project, name, recipe)))


def _open(project: Path, name: str, recipe: "Recipe") -> None:
    """Makes the project, or checks that it is one of this training, and prints what is trained."""
    from spn4cir.cli.recipe_models import check_base, check_generator
    from spn4cir.images.folders import require_images
    from spn4cir.projects.train_project import is_project, make_project, require_same, use_endpoints

    require_images(recipe.folder)
    if is_project(project):
        require_same(project, name, recipe)
        use_endpoints(project, recipe)
        print("\n".join([f"{project}: continues", *recipe.lines(continued=True)]))
        return
    check_base(recipe.base, recipe.family)
    if recipe.generator is not None:
        check_generator(recipe.generator)
    added = make_project(project, name, recipe)
    print("\n".join([*added.lines, "", *recipe.lines(), f"  project     {project}", ""]))


def _results(project: Path, name: str, recipe: "Recipe") -> list[str]:
    """Returns the places of the results, and commands that work in this folder."""
    import pyarrow.parquet as pq

    from spn4cir.json_files import read_json

    data, scores = project / "data", project / "metrics" / name / f"{recipe.family}.json"
    weights = data / "train" / name / recipe.family / "best.pt"
    queries = pq.read_table(data / "validate" / name / recipe.family / "queries.parquet", columns=["reference", "text"])
    rows = queries.to_pylist()
    query = next((row for row in rows if row["text"].strip()), rows[0])
    given = ["--checkpoint", str(weights), "--gallery", str(recipe.folder)]
    text = ["--text", query["text"]] if query["text"].strip() else []
    image = ["--image", str(recipe.folder / query["reference"]), *text]
    broken = ["--skip-broken"] if recipe.missing == "skip" else []
    key = f"train.{name}.{recipe.family}.tau"
    return [
        "",
        f"checkpoint  {weights}",
        f"report      {data / 'report' / name / f'{recipe.family}.html'}",
        f"scores      {scores}",
        *(f"            {too_few}" for too_few in [read_json(scores).get("too_few_queries")] if too_few),
        "",
        "Search:",
        f"  {shlex.join(['spn4cir', 'search', *given, *image, *broken, '--out', f'{name}-found.png'])}",
        f"  {shlex.join(['spn4cir', 'serve', *given])}",
        "Try another setting:",
        f"  {shlex.join(['cd', str(project)])}",
        f"  dvc exp run --name warmer --set-param {key}=0.05",
        "  spn4cir compare HEAD warmer --html compare.html",
    ]
