"""FashionIQ's own annotation files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from spn4cir.config.load import load_params
from spn4cir.datasets import open_layout
from spn4cir.datasets.texts import training_texts
from tests.real.conftest import Call

# By split: triplets, images, triplets with an empty text.
SPLITS = {
    "train dress": (5_985, 11_452, 1),
    "train shirt": (5_988, 19_036, 0),
    "train toptee": (6_027, 16_121, 12),
    "val dress": (2_017, 3_817, 0),
    "val shirt": (2_038, 6_346, 1),
    "val toptee": (1_961, 5_373, 2),
    "test dress": (2_024, 3_818, 0),
    "test shirt": (2_038, 6_346, 1),
    "test toptee": (2_056, 5_374, 0),
}


@pytest.fixture(scope="module")
def root(folder: Callable[[str], Path]) -> Path:
    return folder("fashioniq")


@pytest.fixture(scope="module")
def layout(root: Path) -> Any:
    return open_layout("fashioniq", root, "error")


def test_check_data(root: Path, call: Call, tmp_path: Path) -> None:
    said = call("check-data", "--layout", "fashioniq", "--root", root, "--json", tmp_path / "found.json").stdout
    assert "ok: all 74,381 images are there and can be decoded\n" in said
    assert (
        "triplets with an empty text, which is used as it is: "
        "train dress 1, train toptee 12, val shirt 1, val toptee 2, test shirt 1\n"
    ) in said
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    costs = {
        f"{cost['split']} {cost['category']}": (cost["triplets"], cost["images"], cost["empty_texts"])
        for cost in found["splits"]
    }
    assert costs == SPLITS
    assert (found["missing"], found["broken"], found["unlisted"]) == ([], [], [])
    assert len(found["official"]) == 7
    assert all(total["here"] == total["official"] for total in found["official"].values())


def test_add_dataset(root: Path, call: Call, project: Path) -> None:
    """The only warnings are about the models, which are not there yet."""
    said = call("add-dataset", "real", "--layout", "fashioniq", "--path", root, "--no-check").stdout
    assert "  training    18000 triplets, 25136 images\n" in said
    assert "  validation  2017 dress, 2038 shirt, 1961 toptee queries\n" in said
    assert "the pipeline will stop" not in said
    assert load_params(project / "params.yaml").datasets["real"].categories is None


def test_dedup(root: Path, layout: Any, call: Call, project: Path) -> None:
    """All names of the 18,000 triplets; it keeps as many as there are different images."""
    names = layout.training_gallery().names
    assert len(layout.training_triplets()) == 18_000
    pixels = {Image.open(root / "images" / f"{name}.jpg").convert("RGB").tobytes() for name in names}
    call("dedup", "--layout", "fashioniq", "--root", root, "--out", "unique.json")
    kept, paths, row = json.loads(Path("unique.json").read_text(encoding="utf-8"))
    assert (len(row), len(kept), len(paths)) == (25_136, len(pixels), len(pixels))
    assert list(row) == list(names)


def test_the_images_to_caption(layout: Any) -> None:
    """One row for each entry of a split file, with its category: a name of two categories occurs twice."""
    assert len(layout.caption_images("split")) == 46_609
    assert len({image.name for image in layout.caption_images("split")}) == 45_429
    assert len(layout.caption_images("triplets")) == 25_136


def test_validate(root: Path, weights: Path, call: Call, project: Path) -> None:
    """No query is left out, also none with an empty text."""
    call("validate", "--layout", "fashioniq", "--root", root, "--checkpoint", weights, "--json", "m.json")
    metrics = json.loads(Path("m.json").read_text(encoding="utf-8"))
    counts = metrics["counts"]
    assert counts["queries"] == {"dress": 2_017, "shirt": 2_038, "toptee": 1_961}
    assert counts["gallery"] == {"dress": 3_817, "shirt": 6_346, "toptee": 5_373}
    assert counts["empty_texts"] == {"dress": 0, "shirt": 1, "toptee": 2}
    assert set(counts["left_out"].values()) == set(counts["missing_images"].values()) == {0}
    assert "categories" not in metrics["protocol"]
    rows = pq.read_table("m.queries.parquet").to_pylist()
    texts = {(row["split"], row["query"]): row["text"] for row in rows}
    assert len(texts) == 6_016
    assert texts["shirt", 1928] == " and is grey with a design on the back"
    assert texts["toptee", 676] == " and is an off the shoulder top"
    assert texts["toptee", 1076] == " and fades from red to orange"


def test_what_is_trained_on_with_an_empty_half(layout: Any) -> None:
    texts = {(t.category, t.query_id): training_texts(t) for t in layout.training_triplets() if t.has_empty_text}
    assert len(texts) == 13
    darker = "Darker and not as shiny"
    assert texts["dress", 1039] == (f"{darker} and ", f" and {darker}", darker, "")
    assert texts["toptee", 3999] == ("is casual and plaid and ", " and is casual and plaid", "is casual and plaid", "")
    assert texts["toptee", 4712] == (" and leafy and tall", "leafy and tall and ", "", "leafy and tall")


def test_generated_triplets_of_its_own_names(layout: Any, tmp_path: Path) -> None:
    """The adapter reads the published form that it writes of its own triplets."""
    triplets = layout.training_triplets()[:500]
    records = [layout.generated_record(triplet, "a red dress", "a blue one") for triplet in triplets]
    path = tmp_path / layout.names.triplets_name("clip")
    path.write_text(json.dumps(records), encoding="utf-8")
    assert [(t.reference_name, t.target_name, t.captions) for t in layout.read_generated(path)] == [
        (t.reference_name, t.target_name, t.captions) for t in triplets
    ]


def test_one_category(root: Path, weights: Path, call: Call, project: Path) -> None:
    where = ("--layout", "fashioniq", "--root", root, "--categories", "dress")
    call("validate", *where, "--checkpoint", weights, "--json", "m.json")
    metrics = json.loads(Path("m.json").read_text(encoding="utf-8"))
    assert metrics["counts"]["queries"] == {"dress": 2_017}
    assert metrics["protocol"]["categories"] == "dress"
    assert metrics["average_recall_at10"] == metrics["dress_recall_at10"]
