"""Commands that score a network: `validate` and `submit`; and `check-submission`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from spn4cir.cli.context import dataset_files, find_benchmark, find_machine
from spn4cir.cli.groups import LayoutOptions, MachineOptions, QueryNetworkOptions, SettingsOptions, command
from spn4cir.cli.options import LayoutName, QueryText, Root, Weights
from spn4cir.cli.outputs import check_outputs, check_place
from spn4cir.errors import InputError

if TYPE_CHECKING:
    import torch

    from spn4cir.composers.protocol import Composer
    from spn4cir.config.params import Validate
    from spn4cir.datasets.protocol import Benchmark, Scores
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
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines", help="For a CLIP network: also score the text alone, the image alone, their sum and slerp."
        ),
    ] = False,
    *,
    network: QueryNetworkOptions,
    query_text: QueryText = None,
    how: LayoutOptions,
    whose: SettingsOptions,
    machine: MachineOptions,
) -> None:
    """Score a checkpoint or a pretrained network on the validation split.

    Reads the val captions, split files and images. Writes a JSON file: recalls in percent under flat keys, protocol,
    counts, and the scores over alternative galleries. The result of each query is written into a table beside it,
    FILE.queries.parquet. Prints the recalls. With --shortcuts, the entry `shortcuts` contains the scores of a part of
    the query and of other wordings, and which images rank above the targets. With --baselines, the entry `baselines`
    contains the scores of the network's features composed without training.
    """
    from spn4cir.checkpoints.open import load_network, weights_entry
    from spn4cir.config.params import of_dataset, protocol_of
    from spn4cir.datasets import every_file
    from spn4cir.evaluation.baselines import baselines_of, score_lines
    from spn4cir.evaluation.query_table import queries_entry, write_queries
    from spn4cir.evaluation.shortcuts import probe_of, require_gallery
    from spn4cir.files import atomic_file
    from spn4cir.json_files import write_json

    check_place(json)
    queries = json.with_suffix(".queries.parquet")
    params, place, processes = find_machine(machine)
    data = dataset_files(params, root, whose.dataset, how.annotations)
    reads = [checkpoint, network.tokenizer, paraphrases, *data]
    check_outputs(json, queries, reads=reads, all_read=every_file(layout))
    opened, name = find_benchmark(params, layout, root, whose, how.given() | _query_text(query_text))
    probe = None
    if shortcuts or paraphrases is not None:
        require_gallery(opened)
        probe = probe_of(of_dataset(params.shortcuts, name, "shortcuts"), paraphrases)
    composer = load_network(checkpoint, network.family, network.options, place, network.composition)
    rules = baselines_of(composer) if baselines else {}
    settings = protocol_of(params, name, network.family or composer.family)
    found = _score(composer, opened, settings, processes, place, probe, rules)
    content = _content(found, opened, settings, composer, network.family)
    content |= queries_entry(queries, json) | weights_entry(checkpoint, composer)
    with atomic_file(queries) as temporary:
        counts = found.shortcuts.counts if found.shortcuts else ()
        write_queries(opened, found.evaluation.splits, temporary, counts=counts)
        write_json(json, content, indent=2)
    print("\n".join(score_lines(found.evaluation.scores, found.baselines)))
    if "too_few_queries" in content:
        print(f"{content['too_few_queries']}.")
    print(f"{json}: written, with its queries in {queries}")


def _query_text(template: str | None) -> dict[str, Any]:
    """The layout's setting of that name, where it was given."""
    return {} if template is None else {"query_text": template}


class _Scored(NamedTuple):
    """The scores on the validation splits; shortcuts and baselines if they were requested."""

    evaluation: "Evaluation"
    shortcuts: "ShortcutScores | None"
    baselines: "dict[str, Scores]"


def _score(
    composer: "Composer",
    opened: "Benchmark",
    settings: "Validate",
    workers: int,
    device: "torch.device",
    probe: "Probe | None",
    rules: "Mapping[str, Composer]",
) -> _Scored:
    """The scores on the validation splits, with the shortcuts of a probe and the baselines of rules.

    Images are encoded once, and the queries of the rule by which the composer composes.
    """
    from spn4cir.composers.compositions import composition_of
    from spn4cir.evaluation.baselines import measure_baselines
    from spn4cir.evaluation.evaluate import encode_splits, evaluate
    from spn4cir.evaluation.shortcuts import measure_shortcuts, wordings_of

    splits = opened.evaluation_splits()
    wordings = wordings_of(splits, settings.capitalise, probe) if probe else {}
    images = encode_splits(composer, splits, settings, workers, device)
    evaluation = evaluate(composer, opened, splits, images, settings, device)
    own = composition_of(composer)
    others = {rule: each for rule, each in rules.items() if rule != own}
    measured = measure_baselines(others, opened, splits, images, settings, device)
    baselines = {rule: measured.get(rule, evaluation.scores) for rule in rules}
    shortcuts = None
    if probe is not None:
        shortcuts = measure_shortcuts(composer, opened, evaluation, images, settings, wordings, probe.nearest, device)
    return _Scored(evaluation, shortcuts, baselines)


def _content(
    found: _Scored, opened: "Benchmark", settings: "Validate", composer: "Composer", family: str | None
) -> dict[str, Any]:
    """The content of the metrics file, but for the weights and the table of queries."""
    from spn4cir.composers.compositions import composition_of
    from spn4cir.evaluation.metrics_file import metrics_file

    content = metrics_file(found.evaluation, opened, settings, composer, family)
    if (rule := composition_of(composer)) is not None:
        content["protocol"]["composition"] = rule
    if found.shortcuts is not None:
        content["shortcuts"] = found.shortcuts.scores
    if found.baselines:
        content["baselines"] = found.baselines
    return content


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
    network: QueryNetworkOptions,
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
    files = [out / file.pattern.format(name=name) for file in served.submission]
    check_outputs(*files, reads=[checkpoint, network.tokenizer, root])
    composer = load_network(checkpoint, network.family, network.options, place, network.composition)
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
