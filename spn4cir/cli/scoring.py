"""Commands that score a network: `validate` and `submit`; and `check-submission`."""

from pathlib import Path
from typing import Annotated

import typer

from spn4cir.cli.application import app, example
from spn4cir.cli.context import check_place, find_layout, find_machine, network_options
from spn4cir.cli.options import (
    Annotations,
    Dataset,
    Device,
    Family,
    LayoutName,
    Missing,
    Root,
    TextHeadWidth,
    TokenizerName,
    VisionHeadWidth,
    Weights,
    Workers,
)


@app.command(epilog=example("spn4cir validate --layout cirr --root ~/cirr --checkpoint best.pt --json metrics.json"))
def validate(
    layout: LayoutName,
    root: Root,
    checkpoint: Weights,
    json: Annotated[Path, typer.Option("--json", metavar="FILE", help="The metrics file to write.")],
    shortcuts: Annotated[
        bool,
        typer.Option(
            "--shortcuts", help="Measure the reference alone, the text alone, paraphrases and hard negatives."
        ),
    ] = False,
    paraphrases: Annotated[
        Path | None,
        typer.Option(
            "--paraphrases",
            metavar="FILE",
            help="JSON, a list of other texts by text; taken beside the templates of params.yaml. Means --shortcuts.",
        ),
    ] = None,
    family: Family = None,
    tokenizer: TokenizerName = None,
    vision_head_width: VisionHeadWidth = None,
    text_head_width: TextHeadWidth = None,
    annotations: Annotations = None,
    missing: Missing = None,
    dataset: Dataset = None,
    device: Device = None,
    workers: Workers = None,
) -> None:
    """Score a checkpoint on the validation split.

    Reads the val captions, split files and images. Writes a JSON file: recalls in percent under flat keys, then the
    protocol and the counts behind them, and the scores over alternative galleries; what came out query by query goes
    into a table beside it, FILE.queries.parquet. Prints the recalls. With --shortcuts, the file says under
    `shortcuts` how far a part of the query, or another wording, carries them, and what ranks above the targets.
    """
    from spn4cir.evaluation import encode_splits, evaluate, metrics_file
    from spn4cir.files import atomic_file, write_json
    from spn4cir.networks import load_network
    from spn4cir.outcomes import queries_entry, write_queries
    from spn4cir.params import of_dataset, of_family
    from spn4cir.shortcuts import measure_shortcuts, probe_of, wordings_of

    check_place(json)
    queries = json.with_suffix(".queries.parquet")
    check_place(queries)
    params, place, processes = find_machine(device, workers)
    opened, name = find_layout(params, layout, root, dataset, missing, annotations)
    options = network_options(tokenizer, vision_head_width, text_head_width)
    composer = load_network(checkpoint, family, options, place)
    settings = of_family(params.validate_, name, family or composer.family, "validate")
    splits = opened.evaluation_splits()
    probe = measured = None
    if shortcuts or paraphrases is not None:
        probe = probe_of(of_dataset(params.shortcuts, name, "shortcuts"), paraphrases)
        wordings = wordings_of(splits, settings.capitalise, probe)
    images = encode_splits(composer, splits, settings, processes, place)
    evaluation = evaluate(composer, opened, splits, images, settings, place)
    content = metrics_file(evaluation, opened, settings, composer, family) | queries_entry(queries, json)
    if probe is not None:
        measured = measure_shortcuts(composer, opened, evaluation, images, settings, wordings, probe.nearest, place)
        content["shortcuts"] = measured.scores
    with atomic_file(queries) as temporary:
        write_queries(opened, evaluation.splits, temporary, counts=measured.counts if measured else ())
        write_json(json, content, indent=2)
    for key, value in evaluation.scores.items():
        print(f"{key:<24} {value:6.2f}")
    print(f"{json}: written, with its queries in {queries}")


@app.command(epilog=example("spn4cir submit --root ~/cirr --checkpoint best.pt --name mine --out submission"))
def submit(
    root: Root,
    checkpoint: Weights,
    name: Annotated[str, typer.Option("--name", help="Ends the names of both files; letters, digits, '.', '_', '-'.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the two files go.")],
    family: Family = None,
    tokenizer: TokenizerName = None,
    vision_head_width: VisionHeadWidth = None,
    text_head_width: TextHeadWidth = None,
    missing: Missing = None,
    dataset: Dataset = None,
    device: Device = None,
    workers: Workers = None,
) -> None:
    """Write the two files for CIRR's test server.

    Reads CIRR's test1 captions, split file and images. Writes recall_submission_NAME.json and
    recall_subset_submission_NAME.json, checked. Hand them in at https://cirr.cecs.anu.edu.au/test_process/.
    """
    from spn4cir.datasets import submittable
    from spn4cir.networks import load_network
    from spn4cir.params import of_family
    from spn4cir.submission import check_name, predict, write_submission

    check_name(name)
    check_place(out, folder=True)
    params, place, processes = find_machine(device, workers)
    opened, settings_name = find_layout(params, "cirr", root, dataset, missing)
    options = network_options(tokenizer, vision_head_width, text_head_width)
    composer = load_network(checkpoint, family, options, place)
    settings = of_family(params.validate_, settings_name, family or composer.family, "validate")
    served = submittable("cirr", opened)
    found = predict(composer, served.test_split(), settings, processes, place)
    queries, names = served.test_queries()
    for path in write_submission(found, out, name, queries, names):
        print(f"{path}: written, {len(queries)} queries")


@app.command(epilog=example("spn4cir check-submission submission/recall_submission_mine.json --root ~/cirr"))
def check_submission(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The JSON file to check.")],
    root: Root,
) -> None:
    """Check a submission file before you hand it in.

    Reads FILE and, of the CIRR folder, only the test1 captions and split file: no images are needed. Prints 'ok', or
    what is wrong.
    """
    from spn4cir.datasets import open_layout, submittable
    from spn4cir.submission import NAMES, check_submission

    queries, names = submittable("cirr", open_layout("cirr", root, "error")).test_queries()
    metric = check_submission(file, queries, names)
    print(f"ok: {file} has metric {metric}: {len(queries)} queries with {NAMES[metric]} names each")
