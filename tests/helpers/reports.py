"""A made-up run: the files of the stages for a tiny FashionIQ with chosen figures."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F

from spn4cir.datasets.fashioniq import FashionIQ
from spn4cir.evaluation.metrics import recall_of_ranks
from spn4cir.evaluation.score_recipe import RECIPE_KEY, score_recipe, write_recipe
from spn4cir.positives.dedup import deduplicate, write_optimized_images
from spn4cir.positives.matching import sample_ranks
from spn4cir.positives.rank_samples import write_samples
from tests.helpers.layouts import CATEGORIES, change, write, write_fashioniq

IMAGES = 12
DATE = "2026-01-31"
HOSTILE = '</script><img src=x onerror="alert(1)"> & <b>bold</b>'
REPOSITORY = Path(__file__).parents[2]


def rank(number: int) -> int:
    """Returns the rank of a category's query after stage 2; among them are hits, near misses and failures."""
    return (1, 4, 10, 11, 30, 50, 51, 80, 2, 3, 12, 120)[number]


def write_run(root: Path) -> None:
    """Writes the project folder of a run of demo_fiq and clip, up to `validate`."""
    text = (REPOSITORY / "params.yaml").read_text(encoding="utf-8")
    (root / "params.yaml").write_text(text.replace("clip: [400, 800]", "clip: [10, 20]"), encoding="utf-8")
    data = root / "data"
    images = write_fashioniq(data / "raw/demo_fiq", IMAGES)
    (images / "images/dress-train-7.png").write_bytes((images / "images/dress-train-0.png").read_bytes())
    _write_match(data, FashionIQ(images, "error"))
    names = [f"{category}-train-{number}" for category in CATEGORIES for number in range(IMAGES)]
    write(data / "caption/demo_fiq/fashioniq_it_llava_5.json", [_caption(name) for name in names])
    triplets = [_triplet(names, number) for number in range(20)]
    write(data / "triplets/demo_fiq/clip/cap.extend_clip.train.json", triplets)
    write(data / "listing/demo_fiq/clip.json", {})
    for stage, weights in (("checkpoint", "stage1.pt"), ("train", "best.pt")):
        write_weights(data / stage / "demo_fiq/clip", weights)
    write(data / "checkpoint/demo_fiq/clip/source.json", {"source": "train"})
    write(data / "bank/demo_fiq/clip/manifest.json", {"images": 36})
    write(data / "filter/demo_fiq/clip/counts.json", {"target_within": None, "text_within": None})
    (data / "bank/demo_fiq/clip/target.npy").write_bytes(b"rows")
    _write_outcomes(root)


def _write_match(data: Path, layout: FashionIQ) -> None:
    unique = deduplicate(layout.training_gallery(), 0)
    write_optimized_images(unique, data / "dedup/demo_fiq/optimized_images.json")
    features = F.normalize(torch.randn(len(unique.gallery), 8, generator=torch.Generator().manual_seed(0)))
    samples = sample_ranks(features, unique.gallery.names, [(10, 20), None], 2)
    write_samples(samples, data / "match/demo_fiq/ranks.json")


def _caption(name: str) -> dict[str, str]:
    return {"image_id": name, "caption": f"caption of {name}", "image_path": f"images/{name}.png"}


def _triplet(names: list[str], number: int) -> dict[str, object]:
    reference, target = names[number], names[number + 1]
    return {"candidate": reference, "target": target, "captions": [f"text {number} of {target}"]}


def write_weights(folder: Path, name: str, trained: bool = True) -> None:
    """Writes weights with the curves of a training, or without curves, as for published weights."""
    for group in ("steps", "epochs", "scores"):
        (folder / "figures" / group).mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(name.encode())
    if trained:
        for place, values in (("steps/loss", (3.0, 2.5, 2.0)), ("epochs/loss", (2.5,)), ("epochs/score", (40.0,))):
            rows = "".join(f"{step}\t{value}\n" for step, value in enumerate(values, start=1))
            (folder / "figures" / f"{place}.tsv").write_text(f"step\t{place.split('/')[1]}\n{rows}")


def _write_outcomes(root: Path) -> None:
    gallery = [f"dress-val-{number}" for number in range(IMAGES)]
    captions = root / "data/raw/demo_fiq/captions/cap.dress.val.json"
    change(captions, lambda triplets: triplets[0].update(captions=[HOSTILE, HOSTILE]))
    layout = FashionIQ(root / "data/raw/demo_fiq", "error")
    rows = [
        {
            "split": category,
            "query": number,
            "reference": f"{category}-val-{number}",
            "text": HOSTILE if (category, number) == ("dress", 0) else " ".join([f"is{number}"] * (3 + number)),
            "target": f"{category}-val-{(number + 1) % IMAGES}",
            "rank": rank(number),
            "subset_rank": None,
            "top": [name.replace("dress", category) for name in gallery[:6]],
            "stage1_rank": rank(number) + 5,
            "stage1_subset_rank": None,
            "stage1_top": [name.replace("dress", category) for name in gallery[6:]],
        }
        for category in CATEGORIES
        for number in range(IMAGES)
    ]
    place = root / "data/validate/demo_fiq/clip/queries.parquet"
    place.parent.mkdir(parents=True)
    table = pa.Table.from_pylist(rows)
    for name in ("subset_rank", "stage1_subset_rank"):
        table = table.set_column(table.column_names.index(name), name, pa.nulls(len(rows), pa.int64()))
    recipe = write_recipe(score_recipe(layout, list(CATEGORIES)))
    pq.write_table(table.replace_schema_metadata({RECIPE_KEY: recipe}), place)
    write(place.parent / "scored.json", {"date": DATE})
    metrics = json.loads((REPOSITORY / "metrics/demo_fiq/clip.json").read_text(encoding="utf-8"))
    scores, before = (_scores(layout, [rank(number) + worse for number in range(IMAGES)]) for worse in (0, 5))
    spread = {key: {"mean": 60.0, "min": 55.0, "max": 70.0, "deviation": 5.0} for key in scores}
    shortcuts = {
        "reference_alone": dict.fromkeys(scores, 5.0),
        "text_alone": dict.fromkeys(scores, 33.25),
        "hard_negatives": {
            "k": 10,
            "failures": 24,
            "lookalikes": {"images": 5, "queries": 61.5, "by_chance": 30.25, "mean_above": 1.75, "failures": 12.5},
            "text_matches": {"images": 6, "queries": 71.5, "by_chance": 31.0, "mean_above": 2.5, "failures": 25.0},
            "either": {"failures": 37.5},
        },
        "paraphrases": {
            "sets": {"as written": scores, "it {text}": scores},
            "spread": spread,
            "rank_apart": {"median": 3.0, "mean": 4.5, "largest": 60.0},
        },
    }
    content = {**scores, "protocol": metrics["protocol"], "counts": metrics["counts"], "stage1": before}
    content["queries"] = "../../data/validate/demo_fiq/clip/queries.parquet"
    write(root / "metrics/demo_fiq/clip.json", content | {"shortcuts": shortcuts})
    write(root / "metrics/demo_fiq/baselines.json", {})


def _scores(layout: FashionIQ, ranks: list[int]) -> dict[str, float]:
    """The scores if each category has these ranks."""
    recalls = {f"recall_at{k}": recall_of_ranks(torch.tensor(ranks) - 1, k) for k in layout.protocol.recall_ks}
    return layout.summarise(dict.fromkeys(CATEGORIES, recalls))
