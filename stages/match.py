"""match: for every unique image, partners in the rank windows of its data set."""

from spn4cir.dedup import read_optimized_images
from spn4cir.device import choose_device
from spn4cir.matching import match
from spn4cir.params import of_dataset
from spn4cir.partners import write_partners
from spn4cir.unicom import load_unicom
from spn4cir.windows import write_samples
from stages.common import Job, run


def main(job: Job) -> None:
    """Writes `data/match/<dataset>/{partners.parquet, ranks.json}`."""
    settings = of_dataset(job.params.match, job.dataset, "match")
    models = of_dataset(job.params.models, job.dataset, "models")
    unique = read_optimized_images(job.dedup_file, job.layout().image_path)
    found, samples = match(
        unique,
        load_unicom(job.model("encoder", models.encoder)),
        windows=settings.window.values(),
        partners=settings.partners,
        seed=job.params.seed,
        batch_size=settings.batch_size,
        workers=job.params.machine.workers,
        device=choose_device(job.params.machine.device),
        sampled=job.params.report.windows,
    )
    write_partners(found, unique.gallery, job.place("match") / "partners.parquet")
    write_samples(samples, job.place("match") / "ranks.json")


if __name__ == "__main__":
    run(main, ("DATASET",))
