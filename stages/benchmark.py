"""benchmark: scores a data set's trained weights of both stages on a benchmark that nothing is trained on."""

import sys
from dataclasses import replace
from pathlib import Path

from spn4cir.checkpoints.published import load_composer
from spn4cir.config.params import of_dataset
from spn4cir.datasets import has_test_queries, open_benchmark
from spn4cir.datasets.protocol import Submittable
from spn4cir.evaluation.submission import Predictions, write_submission
from spn4cir.evaluation.validate import validate_both
from spn4cir.files import atomic_folder
from stages.common import DATA, Job, run
from stages.device import stage_device
from stages.outcome import write_metrics, write_tables


def main(job: Job) -> None:
    """Writes `metrics/<benchmark>/<family>.json` and `data/benchmark/<benchmark>/<family>/`.

    The folder also contains the file for the benchmark's test server, if it has one and the test queries are present.
    """
    settings = of_dataset(job.params.benchmarks, job.dataset, "benchmarks")
    layout = open_benchmark(settings.layout, DATA / "raw" / job.dataset, settings.missing, settings.options)
    trained = replace(job, dataset=job.weights)
    composer = load_composer(trained.place("train") / "best.pt", job.family)
    served = layout if has_test_queries(layout) else None
    found = validate_both(
        composer,
        load_composer(trained.stage1_file, job.family),
        layout,
        settings.validate_,
        job.params.machine.workers,
        stage_device(job),
        served=served,
        stored=job.place("benchmark_gallery"),
    )
    with atomic_folder(job.place("benchmark")) as folder:
        write_tables(job, layout, settings.validate_, found, folder)
        if served is not None:
            _submit(job, served, found.submission, folder)
    write_metrics(job, "benchmark", layout, settings.validate_, composer, found)


def _submit(job: Job, served: Submittable, predictions: dict[str, Predictions], folder: Path) -> None:
    """Writes the file for the test server, unless `missing: skip` left out a query; scores are written all the same."""
    queries, gallery = served.test_queries()
    answered = frozenset.intersection(*(frozenset(content) for content in predictions.values()))
    if left_out := [query.query_id for query in queries if str(query.query_id) not in answered]:
        print(
            f"benchmark: no file for the test server, which expects all queries: {len(left_out)} lack an image, the "
            f"first is {left_out[0]}",
            file=sys.stderr,
        )
        return
    write_submission(predictions, served.submission, folder, f"{job.dataset}_{job.family}", queries, gallery)


if __name__ == "__main__":
    run(main, ("BENCHMARK", "FAMILY", "WEIGHTS"))
