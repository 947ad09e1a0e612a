"""benchmark_gallery: encodes the images of a benchmark with the stage-1 weights of a data set."""

from dataclasses import replace

from spn4cir.config.params import of_dataset
from spn4cir.datasets import has_test_queries, open_benchmark
from stages.common import DATA, Job, run
from stages.galleries import write_gallery
from stages.work import listing_hash


def main(job: Job) -> None:
    """Writes `data/benchmark_gallery/<benchmark>/<family>/{reference.npy, target.npy, manifest.json}`.

    The images of the test queries are among them, if the benchmark has a test server and these queries are present.
    """
    settings = of_dataset(job.params.benchmarks, job.dataset, "benchmarks")
    layout = open_benchmark(settings.layout, DATA / "raw" / job.dataset, settings.missing, settings.options)
    tests = (layout.test_split(),) if has_test_queries(layout) else ()
    splits = (*layout.evaluation_splits(), *tests)
    trained = replace(job, dataset=job.weights)
    write_gallery(job, "benchmark_gallery", trained, splits, settings.validate_, listing_hash(layout.root))


if __name__ == "__main__":
    run(main, ("BENCHMARK", "FAMILY", "WEIGHTS"))
