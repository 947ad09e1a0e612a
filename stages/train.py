"""train: stage 2, which trains the query side against the bank."""

import sys
from typing import Any

from spn4cir.checkpoints.published import load_composer
from spn4cir.config.params import of_family
from spn4cir.config.training import Train
from spn4cir.files import file_hash, tree_hash
from spn4cir.parallel import Group
from spn4cir.positives.filter_table import filter_generated, read_filter
from spn4cir.training.bank import open_bank
from spn4cir.training.figures import write_figures
from spn4cir.training.stage2 import train_stage2
from stages.common import Job, run
from stages.inputs import data_hash, training_triplets, unique_images
from stages.training import GlobalBatch, in_processes, training_setup


def main(job: Job) -> None:
    """Writes `data/train/<dataset>/<family>/{best.pt, last.pt, figures/}`."""
    settings = of_family(job.params.train, job.dataset, job.family, "train")
    in_processes(job, GlobalBatch(f"train.{job.dataset}.{job.family}.batch_size", settings.batch_size), _train)


def _train(job: Job, group: Group) -> None:
    settings = of_family(job.params.train, job.dataset, job.family, "train")
    _report_without_effect(job, settings)
    bank_settings = of_family(job.params.bank, job.dataset, job.family, "bank")
    composer = load_composer(job.stage1_file, job.family)
    unique = unique_images(job, bank_settings.images)

    def inputs() -> dict[str, Any]:
        trees = [tree_hash(job.place(stage)) for stage in ("bank", "gallery", "triplets", "filter")]
        return {"weights": file_hash(job.stage1_file), "inputs": [*trees, data_hash(job)]}

    triplets = filter_generated(training_triplets(job, settings.positives, bank_settings.images), job.place("filter"))
    setup = training_setup(job, "train", settings, inputs, triplets, group, job.place("gallery"))
    bank = open_bank(job.place("bank"), composer, unique, bank_settings, mapped=group.size > 1)
    history = train_stage2(composer, bank, settings, setup, job.place("train"))
    if group.first:
        write_figures(history, job.place("train") / "figures", job.place("speed") / "train")


def _report_without_effect(job: Job, settings: Train) -> None:
    """Writes a line to stderr that names settings of generated triplets which the positives leave without effect."""
    key, idle = f"train.{job.dataset}.{job.family}", []
    if settings.positives == "annotated" and read_filter(job.place("filter")) is not None:
        idle.append(f"filter.{job.dataset}.{job.family}")
    if settings.positives == "annotated" and settings.generated_loss != "info_nce":
        idle.append(f"{key}.generated_loss")
    if settings.positives != "both" and settings.generated_weight != 1:
        idle.append(f"{key}.generated_weight")
    if idle:
        names = " and ".join(idle)
        print(f"train: no effect of {names}, because {key}.positives is {settings.positives}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
