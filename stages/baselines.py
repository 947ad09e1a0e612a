"""baselines: scores of pretrained networks whose queries are composed by fixed rules, without training."""

from pathlib import Path

from spn4cir.config.params import of_dataset
from spn4cir.json_files import write_json
from stages.common import Job, run


def main(job: Job) -> None:
    """Writes `metrics/<dataset>/baselines.json`; `{}` without networks or without annotated queries."""
    settings = of_dataset(job.params.baselines, job.dataset, "baselines")
    content = {}
    if settings.networks:
        from stages.pretrained import score_networks  # imports torch, which takes seconds

        content = score_networks(job, job.layout(), settings)
    write_json(Path("metrics") / job.dataset / "baselines.json", content, indent=2)


if __name__ == "__main__":
    run(main, ("DATASET",))
