"""Commands that score a network: `validate` and `submit`; and `check-submission`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spn4cir.cli.context import check_place, find_benchmark, find_machine
from spn4cir.cli.groups import LayoutOptions, MachineOptions, NetworkOptions, SettingsOptions, command
from spn4cir.cli.options import LayoutName, QueryText, Root, Weights
from spn4cir.errors import InputError

if TYPE_CHECKING:
    import torch

    from spn4cir.composers.protocol import Composer
    from spn4cir.config.params import Validate
    from spn4cir.datasets.protocol import Benchmark
    from spn4cir.evaluation.evaluate import Evaluation
    from spn4cir.evaluation.shortcuts import Probe, ShortcutScores


@command("spn4cir validate --layout cirr --root ~/cirr --checkpoint best.pt --json metrics.json")
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
            help="JSON, other texts by text, used beside the templates of params.yaml. Implies --shortcuts.",
        ),
    ] = None,
    *,
    network: NetworkOptions,
    query_text: QueryText = None,
    how: LayoutOptions,
    whose: SettingsOptions,
    machine: MachineOptions,
) -> None:
    """Score a checkpoint on the validation split.

    Reads the val captions, split files and images. Writes a JSON file: recalls in percent under flat keys, protocol,
    counts, and the scores over alternative galleries. The result of each query is written into a table beside it,
    FILE.queries.parquet. Prints the recalls. With --shortcuts, the entry `shortcuts` contains the scores of a part of
    the query and of other wordings, and which images rank above the targets.
    """
    from spn4cir.checkpoints.open import load_network, weights_entry
    from spn4cir.config.params import of_dataset, protocol_of
    from spn4cir.evaluation.evaluate import metrics_file
    from spn4cir.evaluation.query_table import queries_entry, write_queries
    from spn4cir.evaluation.shortcuts import probe_of, require_gallery
    from spn4cir.files import atomic_file, write_json

    queries = json.with_suffix(".queries.parquet")
    check_place(json)
    check_place(queries)
    params, place, processes = find_machine(machine)
    opened, name = find_benchmark(params, layout, root, whose, how.given() | _query_text(query_text))
    probe = None
    if shortcuts or paraphrases is not None:
        require_gallery(opened)
        probe = probe_of(of_dataset(params.shortcuts, name, "shortcuts"), paraphrases)
    composer = load_network(checkpoint, network.family, network.options, place)
    settings = protocol_of(params, name, network.family or composer.family)
    evaluation, measured = _score(composer, opened, settings, processes, place, probe)
    content = metrics_file(evaluation, opened, settings, composer, network.family)
    content |= queries_entry(queries, json) | weights_entry(checkpoint)
    if measured is not None:
        content["shortcuts"] = measured.scores
    with atomic_file(queries) as temporary:
        write_queries(opened, evaluation.splits, temporary, counts=measured.counts if measured else ())
        write_json(json, content, indent=2)
    width = max(24, *map(len, evaluation.scores))
    for key, value in evaluation.scores.items():
        print(f"{key:<{width}} {value:6.2f}")
    print(f"{json}: written, with its queries in {queries}")


def _query_text(template: str | None) -> dict[str, Any]:
    """The layout's setting of that name, where it was given."""
    return {} if template is None else {"query_text": template}


def _score(
    composer: "Composer",
    opened: "Benchmark",
    settings: "Validate",
    workers: int,
    device: "torch.device",
    probe: "Probe | None",
) -> "tuple[Evaluation, ShortcutScores | None]":
    """The scores on the validation splits and, with a probe, the shortcuts."""
    from spn4cir.evaluation.evaluate import encode_splits, evaluate
    from spn4cir.evaluation.shortcuts import measure_shortcuts, wordings_of

    splits = opened.evaluation_splits()
    wordings = wordings_of(splits, settings.capitalise, probe) if probe else {}
    images = encode_splits(composer, splits, settings, workers, device)
    evaluation = evaluate(composer, opened, splits, images, settings, device)
    if probe is None:
        return evaluation, None
    return evaluation, measure_shortcuts(
        composer, opened, evaluation, images, settings, wordings, probe.nearest, device
    )


Served = Annotated[
    str,
    typer.Option("--layout", metavar="cirr|circo", help="How the folder is laid out: the data set of the test server."),
]


@command("spn4cir submit --root ~/cirr --checkpoint best.pt --name mine --out submission")
def submit(
    root: Root,
    checkpoint: Weights,
    name: Annotated[
        str, typer.Option("--name", help="The last part of the files' names; letters, digits, '.', '_', '-'.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="The folder to write.")],
    layout: Served = "cirr",
    *,
    network: NetworkOptions,
    query_text: QueryText = None,
    whose: SettingsOptions,
    machine: MachineOptions,
) -> None:
    """Write the files for a test server, CIRR's or CIRCO's.

    Reads the annotations and images of the test split. Writes recall_submission_NAME.json and
    recall_subset_submission_NAME.json, which go to https://cirr.cecs.anu.edu.au/test_process/, or
    submission_test_NAME.json, which goes to https://circo.micc.unifi.it/. The files are checked first.
    """
    from spn4cir.checkpoints.open import load_network
    from spn4cir.config.params import protocol_of
    from spn4cir.datasets import submittable
    from spn4cir.evaluation.submission import check_name, predict, write_submission

    check_name(name)
    check_place(out, folder=True)
    params, place, processes = find_machine(machine)
    opened, settings_name = find_benchmark(params, layout, root, whose, _query_text(query_text))
    served = submittable(layout, opened)
    composer = load_network(checkpoint, network.family, network.options, place)
    settings = protocol_of(params, settings_name, network.family or composer.family)
    found = predict(composer, served.test_split(), served.submission, settings, processes, place)
    queries, names = served.test_queries()
    for path in write_submission(found, served.submission, out, name, queries, names):
        print(f"{path}: written, {len(queries)} queries")


@command("spn4cir check-submission submission/recall_submission_mine.json --root ~/cirr")
def check_submission(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The JSON file to check.")],
    root: Root,
    layout: Served = "cirr",
) -> None:
    """Check a submission file before you hand it in.

    Reads FILE, and the test split's annotations and list of images in the data folder; no images are needed. Prints
    'ok', or the problems.
    """
    from spn4cir.datasets import open_benchmark, submittable
    from spn4cir.evaluation.submission import check_submission

    served = submittable(layout, open_benchmark(layout, root, "error"))
    queries, names = served.test_queries()
    if not file.is_file():
        problem = "is a folder" if file.is_dir() else "no such file"
        raise InputError(f"{file}: {problem}; give the path of the submission file, a .json")
    found = check_submission(file, served.submission, queries, names, served.other_queries())
    other = "" if found.split == found.file.split else f" of {found.split}, which no server scores,"
    metric, count = found.file.metric, found.file.count
    print(f"ok: {file} has metric {metric}: {found.queries} queries{other} with {count} names each")
