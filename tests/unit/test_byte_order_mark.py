"""Files that an editor saved with a byte order mark are read as those without one."""

import codecs
import json
from pathlib import Path

import pytest

from spn4cir.comparison.runs import read_runs
from spn4cir.composers.bert_tokenizer import folder_vocabulary
from spn4cir.config.load import load_params
from spn4cir.config.params import PARAMS_FILE
from spn4cir.datasets import open_benchmark
from spn4cir.datasets.cc3m import Cc3m
from spn4cir.evaluation.submission import check_submission
from spn4cir.positives.caption_files import read_captions
from spn4cir.positives.dedup import deduplicate, read_optimized_images, write_optimized_images
from tests.helpers.benchmarks import write_circo, write_genecis
from tests.helpers.layouts import write, write_cirr, write_fashioniq, write_folder
from tests.helpers.pools import write_part_files
from tests.helpers.words import bert_folder, write_vocabulary

ROOT = Path(__file__).parents[2]


def mark(*paths: Path) -> None:
    """Puts the mark before the content of each file."""
    assert paths
    for path in paths:
        path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())


LAYOUTS = {
    "fashioniq": (write_fashioniq, {}),
    "cirr": (write_cirr, {}),
    "circo": (write_circo, {}),
    "genecis": (write_genecis, {}),
    "folder": (write_folder, {"annotations": "triplets.csv"}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_annotations_and_split_files(tmp_path: Path, layout: str) -> None:
    make, options = LAYOUTS[layout]
    root = make(tmp_path)
    plain = open_benchmark(layout, root, "error", options)
    before = plain.annotated_splits(), plain.evaluation_splits()
    mark(*root.rglob("*.json"), *root.rglob("*.csv"))
    marked = open_benchmark(layout, root, "error", options)
    assert (marked.annotated_splits(), marked.evaluation_splits()) == before


def test_part_files_of_a_pool(tmp_path: Path) -> None:
    write_part_files(tmp_path)
    before = Cc3m(tmp_path, None, "error").images()
    mark(*tmp_path.glob("*.data"))
    assert Cc3m(tmp_path, None, "error").images() == before


def test_unique_images_and_captions(tmp_path: Path) -> None:
    layout = open_benchmark("cirr", write_cirr(tmp_path / "cirr"), "error")
    unique = deduplicate(layout.training_gallery(), 0)
    write_optimized_images(unique, tmp_path / "optimized_images.json")
    captions = write(tmp_path / "captions.json", [{"image_id": "a", "caption": "a mug", "image_path": "a.png"}])
    mark(tmp_path / "optimized_images.json", captions)
    assert read_optimized_images(tmp_path / "optimized_images.json", layout.image_path) == unique
    assert read_captions(captions) == {"a": "a mug"}


def test_a_submission(tmp_path: Path) -> None:
    layout = open_benchmark("circo", write_circo(tmp_path), "error")
    queries, names = layout.test_queries()
    listed = sorted(map(int, names))[:50]
    path = write(tmp_path / "submission_test_a.json", {str(query.query_id): listed for query in queries})
    mark(path)
    assert check_submission(path, layout.submission, queries, names).file.metric == "map"


def test_a_metrics_file(tmp_path: Path) -> None:
    counts = {"queries": {"val": 1}, "gallery": {"val": 2}}
    metrics = {"recall_at1": 5.0, "protocol": {"family": "clip"}, "counts": counts}
    path = write(tmp_path / "demo" / "clip.json", metrics)
    mark(path)
    (run,) = read_runs(str(path)).values()
    assert run.metrics["recall_at1"] == 5.0


def test_vocabularies(tmp_path: Path) -> None:
    plain = folder_vocabulary(write_vocabulary(tmp_path / "plain"))
    mark(write_vocabulary(tmp_path / "words") / "vocab.txt")
    assert folder_vocabulary(tmp_path / "words") == plain
    (tmp_path / "fast").mkdir()
    (tmp_path / "fast" / "tokenizer.json").write_bytes((bert_folder() / "tokenizer.json").read_bytes())
    mark(tmp_path / "fast" / "tokenizer.json")
    words = folder_vocabulary(tmp_path / "fast")
    assert words[:1] == ("[PAD]",)
    assert len(words) == len(json.loads((bert_folder() / "tokenizer.json").read_text("utf-8"))["model"]["vocab"])


def test_the_settings(tmp_path: Path) -> None:
    path = tmp_path / PARAMS_FILE
    path.write_bytes((ROOT / PARAMS_FILE).read_bytes())
    mark(path)
    assert load_params(path) == load_params(ROOT / PARAMS_FILE)
