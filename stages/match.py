"""match: partners of every unique image in the rank windows of the families that `run` selects."""

from pathlib import Path

from spn4cir.config.params import of_dataset
from spn4cir.files import file_hash
from spn4cir.positives.dedup import read_optimized_images
from spn4cir.positives.matching import Matched, match
from spn4cir.positives.partners import write_partners
from spn4cir.positives.rank_samples import RankSamples, write_samples
from spn4cir.positives.unicom import load_unicom
from spn4cir.types import UniqueImages
from stages.common import Job, run
from stages.device import stage_device
from stages.image_workers import image_workers
from stages.work import clear_others, code_hash, listing_hash, work_folder


def main(job: Job) -> None:
    """Writes `data/match/<dataset>/{partners.parquet, ranks.json}`; without an encoder, both contain no images."""
    source = of_dataset(job.params.models, job.dataset, "models").encoder
    # Of a layout that does not outlive the call: it keeps the paths of all images.
    unique = read_optimized_images(job.dedup_file, job.layout().image_path)
    if source is None:
        found, samples = Matched([], RankSamples(len(unique.gallery), ()))
    else:
        found, samples = _match(job, unique, job.model("encoder", source), job.layout().root)
    write_partners(found, unique.gallery, job.place("match") / "partners.parquet")
    write_samples(samples, job.place("match") / "ranks.json")


def _match(job: Job, unique: UniqueImages, encoder: Path, root: Path) -> Matched:
    settings = of_dataset(job.params.match, job.dataset, "match")
    windows = [job.of_family(settings.window, "match.{}.window", family) for family in job.params.run.models]
    workers, encoder_device = image_workers(job)
    work = work_folder(
        job.work("match"),
        {
            "encoder": file_hash(encoder),
            "images": [file_hash(job.dedup_file), listing_hash(root)],
            "batch_size": settings.batch_size,
            "code": code_hash(job, "match"),
            "device": encoder_device.type,
        },
    )
    clear_others(work)
    return match(
        unique,
        load_unicom(encoder),
        windows=windows,
        partners=settings.partners,
        seed=job.params.seed,
        batch_size=settings.batch_size,
        workers=workers,
        device=encoder_device if isinstance(workers, int) else stage_device(job),
        sampled=job.params.report.windows,
        work=work,
    )


if __name__ == "__main__":
    run(main, ("DATASET",))
