"""filter: decides which texts of the generated triplets stage 2 uses, by their ranks under the stage-1 network."""

import sys
from collections.abc import Sequence

from spn4cir.config.params import of_family
from spn4cir.config.positives import Filter
from spn4cir.errors import InputError
from spn4cir.positives.filter_table import FilteredText, count, judge_texts, write_filter
from spn4cir.types import Triplet
from stages.common import Job, run
from stages.inputs import training_triplets, unique_images


def main(job: Job) -> None:
    """Writes `data/filter/<dataset>/<family>/`; without a condition or a triplet, only a marker is written.

    An interrupted run is repeated from its beginning: it composes each text twice and trains nothing, which takes less
    time than an epoch of stage 2.
    """
    settings = of_family(job.params.filter, job.dataset, job.family, "filter")
    images = of_family(job.params.bank, job.dataset, job.family, "bank").images
    triplets = training_triplets(job, "generated", images) if settings.enabled else ()
    if not triplets:
        write_filter(job.place("filter"), settings)
        _report_off(job, settings)
        return
    texts = _judged(job, settings, triplets)
    found = count(texts)
    said = (
        f"{found['kept']:,} of {found['triplets']:,} generated triplets are kept ({found['kept_texts']:,} of "
        f"{found['texts']:,} texts); {found['wrong']:,} are wrong, {found['shortcut']:,} are shortcuts"
    )
    if not found["kept"]:
        key = f"filter.{job.dataset}.{job.family}"
        raise InputError(f"filter: {said}; raise {key}.target_within, lower {key}.text_within, or set them to null")
    write_filter(job.place("filter"), settings, texts)
    print(f"filter: {said}")


def _report_off(job: Job, settings: Filter) -> None:
    if settings.enabled:
        key = f"filter.{job.dataset}.{job.family}"
        print(f"filter: no effect of {key}, because there are no generated triplets", file=sys.stderr)
    else:
        print("filter: off, stage 2 uses all generated triplets")


def _judged(job: Job, settings: Filter, triplets: Sequence[Triplet]) -> tuple[FilteredText, ...]:
    from spn4cir.checkpoints.published import load_composer
    from spn4cir.training.bank import open_bank
    from spn4cir.training.text_ranks import rank_texts
    from stages.device import stage_device

    bank_settings = of_family(job.params.bank, job.dataset, job.family, "bank")
    device = stage_device(job)
    composer = load_composer(job.stage1_file, job.family).to(device)
    bank = open_bank(job.place("bank"), composer, unique_images(job, bank_settings.images), bank_settings)
    ranks = rank_texts(composer, bank, triplets, bank_settings.batch_size, job.params.machine.workers, device)
    return judge_texts(triplets, zip(*((each + 1).tolist() for each in ranks), strict=True), settings)


if __name__ == "__main__":
    run(main)
