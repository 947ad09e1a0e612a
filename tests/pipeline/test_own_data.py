"""Own images through the pipeline: the steps of docs/own-data.md as written, and a table of annotations."""

import json
import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.helpers.layouts import write_folder, write_table
from tests.helpers.pages import blocks_of
from tests.pipeline.conftest import Project


def test_the_walk_through_own_data_runs_as_written(project: Project) -> None:
    """From the images of the package to a search, without an annotation."""
    fetch, *others = (block.text for block in blocks_of("own-data.md", "bash"))
    fetched = project.run("bash", "-euo", "pipefail", "-c", fetch, check=False)
    if fetched.returncode:
        pytest.skip(f"npm is not there, or its registry is not in reach: {fetched.stderr.strip()[-300:]}")
    flags = project.root.parent / "flags"
    assert len(list(flags.glob("*.png"))) == 256
    out = [project.run("bash", "-euo", "pipefail", "-c", command).stdout for command in others]
    assert "ok: all 256 images are there and can be decoded" in out[0]
    assert "training    0 triplets, 256 images" in out[1]
    assert len(re.findall(r"^ +\d  \w+-?\w*\.png", out[1], re.MULTILINE)) == 5
    metrics = json.loads((project.root / "metrics/flags/zs.json").read_text())
    assert metrics["protocol"]["queries"].startswith("generated from captions, held out")
    assert metrics["counts"]["gallery"] == {"val": 256}
    table = pq.read_table(project.root / "data/validate/flags/zs/queries.parquet")
    assert table.num_rows == metrics["counts"]["queries"]["val"] > 5
    assert Image.open(project.root / "data/validate/flags/zs/contact_sheet.png").width > 800
    listing = json.loads((project.root / "data/listing/flags/zs.json").read_text())
    held = {name for reference, target, _ in listing["queries"] for name in (reference, target)}
    assert held.isdisjoint(listing["images"])
    assert len(re.findall(r"^ +\d  \w+-?\w*\.png", out[-1], re.MULTILINE)) == 5
    assert Image.open(project.root.parent / "flags-found.png").width > 800


def test_annotated_images_train_and_score_a_family(project: Project, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "shop")
    report = project.run(
        *("spn4cir", "add-dataset", "shop", "--layout", "folder", "--path", str(folder)),
        *("--annotations", str(folder / "triplets.csv"), "--like", "demo_fiq"),
    ).stdout
    assert "training    30 triplets, 31 images" in report
    assert "validation  10 val queries" in report
    shutil.copytree(project.root / "data/models/demo_fiq", project.root / "data/models/shop", dirs_exist_ok=True)

    def choose(params: dict) -> None:
        assert params["datasets"]["shop"]["annotations"] == "triplets.csv"
        params["run"].update(datasets=["shop"], submit=[])
        params["match"]["shop"]["window"]["clip"] = None  # tgcir's window exceeds the images, and does not run

    project.edit("params.yaml", choose)
    assert "validate@shop-clip" in project.repro()
    metrics = json.loads((project.root / "metrics/shop/clip.json").read_text())
    assert metrics["protocol"]["queries"] == "annotated"
    assert metrics["counts"]["queries"] == {"val": 10}
    assert {"recall_at5", "recall_subset_at1", "mean_recall5_subset1"} <= metrics.keys()
    unique = json.loads((project.root / "data/dedup/shop/optimized_images.json").read_text())
    assert "pots/15.png" not in unique[2], "training does not use an image that only queries name"


def test_a_table_trains_and_scores_as_its_page_says(project: Project, tmp_path: Path) -> None:
    """With the settings of the demo instead of FashionIQ's, whose captioner is on the hub."""
    columns = ("--table", "reference=reference_image", "--table", "target=target_image")
    folder = write_table(tmp_path / "tables")
    project.run(
        "spn4cir", "add-dataset", "shop", "--layout", "table", "--path", str(folder), *columns, "--like", "demo_fiq"
    )
    shutil.copytree(project.root / "data/models/demo_fiq", project.root / "data/models/shop", dirs_exist_ok=True)

    def widen(params: dict) -> None:
        params["match"]["shop"]["window"].update(clip=[0.4, 0.8], tgcir=[5000, 6000])

    project.edit("params.yaml", widen)
    (command,) = (block.text for block in blocks_of("tables.md", "bash") if "dvc exp run" in block.text)
    project.run("bash", "-euo", "pipefail", "-c", command)
    metrics = json.loads((project.root / "metrics/shop/clip.json").read_text())
    assert metrics["protocol"]["gallery"] == "the images that the rows of the split name"
    assert metrics["counts"]["queries"] == {"val": 10}
    assert metrics["counts"]["gallery"] == {"val": 11}
    generated = json.loads((project.root / "data/triplets/shop/clip/cap.extend_clip.train.json").read_text())
    assert {record["reference"] for record in generated} <= {f"{number}.png" for number in range(31)}
    page = (project.root / "data/report/shop/clip.html").read_text(encoding="utf-8")
    assert "data:image" in page, "images are read from the cells"
