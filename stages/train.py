"""train: stage 2, the query side against the bank."""

from spn4cir.checkpoints.published import load_composer
from spn4cir.config.params import of_family
from spn4cir.device import choose_device
from spn4cir.files import file_hash, tree_hash
from spn4cir.training.bank import open_bank
from spn4cir.training.figures import Figures, write_figures
from spn4cir.training.stage2 import positives, train_stage2
from spn4cir.types import Triplet
from stages.common import Job, run
from stages.inputs import data_hash, first_triplets, scored_layout, unique_images
from stages.work import clear_others, code_hash, work_folder


def main(job: Job) -> None:
    """Writes `data/train/<dataset>/<family>/{best.pt, last.pt, figures/}`."""
    settings = of_family(job.params.train, job.dataset, job.family, "train")
    protocol = of_family(job.params.validate_, job.dataset, job.family, "validate")
    layout = scored_layout(job)
    device = choose_device(job.params.machine.device)
    composer = load_composer(job.stage1_file, job.family)
    bank_settings = of_family(job.params.bank, job.dataset, job.family, "bank")
    unique = unique_images(job, bank_settings.images)
    work = work_folder(
        job.work("train"),
        {
            "settings": settings.model_dump(),
            "validate": protocol.model_dump(),
            "seed": job.params.seed,
            "weights": file_hash(job.stage1_file),
            "inputs": [tree_hash(job.place("bank")), tree_hash(job.place("triplets")), data_hash(job)],
            "code": code_hash(job, "train"),
            "device": device.type,
        },
    )
    clear_others(work)
    history = train_stage2(
        composer,
        layout,
        _positives(job, settings.positives, bank_settings.images),
        open_bank(job.place("bank"), composer, unique, bank_settings),
        settings,
        protocol,
        seed=job.params.seed,
        work=work,
        out=job.place("train"),
        workers=job.params.machine.workers,
        device=device,
        watch=Figures(work / "live").update,
    )
    write_figures(history, job.place("train") / "figures", job.place("speed") / "train")


def _positives(job: Job, which: str, images: str) -> tuple[Triplet, ...]:
    """The training triplets; those of a bank of generated triplets' images are in the listing."""
    if images == "generated":
        return first_triplets(job, which)
    layout = job.layout()
    return positives(layout, job.place("triplets") / layout.names.triplets_name(job.family), which)


if __name__ == "__main__":
    run(main)
