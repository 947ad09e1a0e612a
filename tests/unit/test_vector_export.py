"""An index's vectors as parquet, and the page that searches them in a vector database."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from qdrant_client import QdrantClient
from typer.testing import CliRunner, Result

import spn4cir.search.export
from spn4cir import Retriever
from spn4cir.cli import app
from spn4cir.files import file_hash
from spn4cir.search.encoder import Encoder
from tests.helpers.layouts import draw
from tests.helpers.pages import run_page
from tests.helpers.published import flags, write_published

NAMES = ["again.png", "coat.png", "dress.png", "in/shirt.png", "top.png"]
# Number of vectors of an image: clip has one, blip2 several.
FAMILIES = ("clip", "blip2")


def call(*arguments: object, status: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result


@pytest.fixture(autouse=True)
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two of them equal: they share a vector."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(NAMES):
        draw(Path("images") / name, max(number, 1))
    return Path("images")


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    write_published(tmp_path / "a.pt", request.param, 2)
    call("export", "--to", "hub-folder", "--checkpoint", "a.pt", "--out", "my-model", *flags(request.param, tmp_path))
    return Path("my-model")


def test_an_image_is_a_row_and_the_schema_has_metadata(model, images, monkeypatch):
    encoder = Encoder.from_checkpoint(model)
    monkeypatch.setattr(spn4cir.search.export, "GROUP_NUMBERS", 2 * encoder.tokens * encoder.dim)
    Retriever.from_checkpoint(model, workers=0).index(images).save("index")
    said = call("export", "--to", "vectors", "--index", "index", "--out", "v.parquet").stdout
    shape = f"{encoder.dim}" if encoder.tokens == 1 else f"{encoder.tokens} x {encoder.dim}"
    assert said == f"v.parquet: written, 5 images, {shape} figures each, unit norm, for the inner product\n"
    file = pq.ParquetFile("v.parquet")
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [2, 2, 1]
    rows = file.read().to_pylist()
    assert [row["name"] for row in rows] == NAMES
    assert [row["path"] for row in rows] == [str((images / name).absolute()) for name in NAMES]
    assert rows[0]["digest"] == rows[1]["digest"] != rows[2]["digest"]
    wanted = encoder.encode_document([images / name for name in NAMES])
    assert np.allclose([row["vector"] for row in rows], wanted, atol=1e-6)
    assert rows[0]["vector"] == rows[1]["vector"]
    assert json.loads(file.schema_arrow.metadata[b"spn4cir"]) == {
        "family": "blip2" if encoder.tokens > 1 else "clip",
        "weights": file_hash(model / "model.safetensors"),
        "image_side": json.loads(Path("index/index.json").read_text())["image_side"],
        "dim": encoder.dim,
        "tokens": encoder.tokens,
        "images": 5,
        "normalised": True,
        "metric": "inner product",
        "version": "0.1.0",
    }
    vectors = file.schema_arrow.field("vector").type
    assert str((vectors.value_type if encoder.tokens > 1 else vectors).value_type) == "float"
    assert np.allclose(np.linalg.norm([row["vector"] for row in rows], axis=-1), 1, atol=1e-5)


def test_an_approximate_index_gives_the_same_file(images, tmp_path, monkeypatch):
    write_published(tmp_path / "a.pt", "clip")
    retriever = Retriever.from_checkpoint("a.pt", workers=0).index(images)
    retriever.save("exact")
    monkeypatch.setattr("spn4cir.search.vectors.EXACT_BELOW", 2)
    again = Retriever.from_checkpoint("a.pt", workers=0).index(images)
    assert again.approximate
    again.save("lists")
    for name in ("exact", "lists"):
        call("export", "--to", "vectors", "--index", name, "--out", f"{name}.parquet")
    assert pq.read_table("exact.parquet").equals(pq.read_table("lists.parquet"))


def test_what_is_no_index_and_options_of_other_forms_are_refused(images):
    said = call("export", "--to", "vectors", "--index", images, "--out", "v.parquet", status=1).stderr
    assert said.startswith("error: images: is no index")
    assert not Path("v.parquet").exists()
    for options, reason in (
        (["--to", "vectors"], "--to vectors needs --index"),
        (["--to", "hub-folder"], "--to hub-folder needs --checkpoint"),
        ([], "--to published needs --checkpoint"),
        (["--to", "vectors", "--checkpoint", "a.pt"], "--checkpoint is not for --to vectors"),
        (["--index", "i"], "--index is not for --to published"),
    ):
        assert reason in call("export", "--out", "x", *options, status=2).stderr


@pytest.mark.parametrize("place", ["index/index.json", "index/v.parquet", "index/in/v.parquet"])
def test_a_file_in_the_index_is_refused(images, tmp_path, place):
    """It would take the place of one of its own, or keep the index from being written again."""
    write_published(tmp_path / "a.pt", "clip")
    Retriever.from_checkpoint("a.pt", workers=0).index(images).save("index")
    before = {path.name: file_hash(path) for path in Path("index").iterdir()}
    said = call("export", "--to", "vectors", "--index", "index", "--out", place, status=1).stderr
    assert said == f"error: {place}: is inside index, which is read; name a file outside it\n"
    assert {path.name: file_hash(path) for path in Path("index").iterdir()} == before


def test_the_page_finds_in_the_database_what_the_retriever_finds(model, images, capsys):
    """docs/vector-database.md as written, with the library's local mode."""
    (images / "again.png").unlink()
    names = run_page("vector-database.md")
    assert len(capsys.readouterr().out.splitlines()) == 3
    names["client"] = QdrantClient(path="catalogue.qdrant")  # the page has closed its own
    retriever = Retriever.load("catalogue.index", workers=0)
    for text in ("is red", "has longer sleeves"):
        hits = retriever.search("coat.png", text)
        found = names["search"]("coat.png", text)
        assert [name for name, _ in found] == [hit.name for hit in hits]
        assert [score for _, score in found] == pytest.approx([hit.score for hit in hits], abs=1e-5)
    names["client"].close()
