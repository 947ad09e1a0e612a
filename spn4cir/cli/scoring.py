"""Commands that score a network: `validate` and `submit`; and `check-submission`."""

from pathlib import Path
from typing import Annotated

import typer

from spn4cir.cli.application import app, example
from spn4cir.cli.context import check_place, find_benchmark, find_machine, network_options
from spn4cir.cli.options import (
    Annotations,
    Categories,
    Dataset,
    Device,
    Family,
    LayoutName,
    Missing,
    QueryText,
    Root,
    TableSettings,
    Tasks,
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
    query_text: QueryText = None,
    table: TableSettings = None,
    categories: Categories = None,
    tasks: Tasks = None,
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
    from spn4cir.checkpoints.open import load_network, weights_entry
    from spn4cir.config.params import of_dataset, protocol_of
    from spn4cir.evaluation.evaluate import encode_splits, evaluate, metrics_file
    from spn4cir.evaluation.query_table import queries_entry, write_queries
    from spn4cir.evaluation.shortcuts import measure_shortcuts, probe_of, require_gallery, wordings_of
    from spn4cir.files import atomic_file, write_json

    check_place(json)
    queries = json.with_suffix(".queries.parquet")
    check_place(queries)
    params, place, processes = find_machine(device, workers)
    opened, name = find_benchmark(
        params, layout, root, dataset, missing, annotations, query_text, table, categories, tasks
    )
    probe = measured = None
    if shortcuts or paraphrases is not None:
        require_gallery(opened)
        probe = probe_of(of_dataset(params.shortcuts, name, "shortcuts"), paraphrases)
    options = network_options(tokenizer, vision_head_width, text_head_width)
    composer = load_network(checkpoint, family, options, place)
    settings = protocol_of(params, name, family or composer.family)
    splits = opened.evaluation_splits()
    if probe is not None:
        wordings = wordings_of(splits, settings.capitalise, probe)
    images = encode_splits(composer, splits, settings, processes, place)
    evaluation = evaluate(composer, opened, splits, images, settings, place)
    content = metrics_file(evaluation, opened, settings, composer, family) | queries_entry(queries, json)
    content |= weights_entry(checkpoint)
    if probe is not None:
        measured = measure_shortcuts(composer, opened, evaluation, images, settings, wordings, probe.nearest, place)
        content["shortcuts"] = measured.scores
    with atomic_file(queries) as temporary:
        write_queries(opened, evaluation.splits, temporary, counts=measured.counts if measured else ())
        write_json(json, content, indent=2)
    width = max(24, *map(len, evaluation.scores))
    for key, value in evaluation.scores.items():
        print(f"{key:<{width}} {value:6.2f}")
    print(f"{json}: written, with its queries in {queries}")


Served = Annotated[
    str, typer.Option("--layout", metavar="cirr|circo", help="Whose test server: how the folder is laid out.")
]


@app.command(epilog=example("spn4cir submit --root ~/cirr --checkpoint best.pt --name mine --out submission"))
def submit(
    root: Root,
    checkpoint: Weights,
    name: Annotated[str, typer.Option("--name", help="Ends the files' names; letters, digits, '.', '_', '-'.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the files go.")],
    layout: Served = "cirr",
    family: Family = None,
    tokenizer: TokenizerName = None,
    vision_head_width: VisionHeadWidth = None,
    text_head_width: TextHeadWidth = None,
    query_text: QueryText = None,
    missing: Missing = None,
    dataset: Dataset = None,
    device: Device = None,
    workers: Workers = None,
) -> None:
    """Write the files for a test server, CIRR's or CIRCO's.

    Reads the annotations and images of the test split. Writes recall_submission_NAME.json and
    recall_subset_submission_NAME.json, which go to https://cirr.cecs.anu.edu.au/test_process/, or
    submission_test_NAME.json, which goes to https://circo.micc.unifi.it/. They are checked.
    """
    from spn4cir.checkpoints.open import load_network
    from spn4cir.config.params import protocol_of
    from spn4cir.datasets import submittable
    from spn4cir.evaluation.submission import check_name, predict, write_submission

    check_name(name)
    check_place(out, folder=True)
    params, place, processes = find_machine(device, workers)
    opened, settings_name = find_benchmark(params, layout, root, dataset, missing, query_text=query_text)
    served = submittable(layout, opened)
    options = network_options(tokenizer, vision_head_width, text_head_width)
    composer = load_network(checkpoint, family, options, place)
    settings = protocol_of(params, settings_name, family or composer.family)
    found = predict(composer, served.test_split(), served.submission, settings, processes, place)
    queries, names = served.test_queries()
    for path in write_submission(found, served.submission, out, name, queries, names):
        print(f"{path}: written, {len(queries)} queries")


@app.command(epilog=example("spn4cir check-submission submission/recall_submission_mine.json --root ~/cirr"))
def check_submission(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The JSON file to check.")],
    root: Root,
    layout: Served = "cirr",
) -> None:
    """Check a submission file before you hand it in.

    Reads FILE and, of the data folder, only the test split's annotations and the list of its images: no images are
    needed. Prints 'ok', or what is wrong.
    """
    from spn4cir.datasets import open_benchmark, submittable
    from spn4cir.evaluation.submission import check_submission

    served = submittable(layout, open_benchmark(layout, root, "error"))
    queries, names = served.test_queries()
    found = check_submission(file, served.submission, queries, names, served.other_queries())
    other = "" if found.split == found.file.split else f" of {found.split}, which no server scores,"
    metric, count = found.file.metric, found.file.count
    print(f"ok: {file} has metric {metric}: {found.queries} queries{other} with {count} names each")
