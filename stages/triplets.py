"""triplets: modification texts from the captions of matched images."""

from open_clip import SimpleTokenizer

from spn4cir.captioning import read_captions
from spn4cir.files import write_json
from spn4cir.params import of_dataset, of_family
from spn4cir.partners import read_partners
from spn4cir.triplets import write_triplets
from stages.common import Job, run


def main(job: Job) -> None:
    """Writes the generated triplets of a family in the published form of the layout."""
    settings = of_family(job.params.triplets, job.dataset, job.family, "triplets")
    layout = job.layout()
    words = job.of_family(of_dataset(job.params.caption, job.dataset, "caption").words, "caption.words")
    window = job.of_family(of_dataset(job.params.match, job.dataset, "match").window, "match.window")
    partners = read_partners(job.shared("match") / "partners.parquet", window)
    tokenizer = SimpleTokenizer()
    written = write_triplets(
        ((partner.reference_name, partner.target_name) for partner in partners),
        read_captions(job.shared("caption") / layout.captions_name(words)),
        settings,
        references=frozenset(triplet.reference_name for triplet in layout.training_triplets()),
        seed=job.params.seed,
        count_tokens=lambda text: len(tokenizer.encode(text)) + 2,
    )
    records = [layout.generated_record(*each) for each in written]
    write_json(job.place("triplets") / layout.generated_name(job.family), records)
    print(f"triplets: {len(records)} generated")


if __name__ == "__main__":
    run(main)
