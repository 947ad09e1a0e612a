"""The search page's service over a Qdrant collection, in the client's local mode: the hits of an index."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from qdrant_client import QdrantClient, models

from spn4cir import Retriever
from spn4cir.errors import InputError
from spn4cir.search.database import DatabaseAddress, DatabaseRetriever
from spn4cir.search.index_weights import image_side_hash
from spn4cir.serving.api import create_app
from spn4cir.serving.service import SearchService
from tests.helpers.checkpoints import write_checkpoint
from tests.helpers.layouts import draw

ADDRESS = "qdrant:database/catalogue"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A gallery of five images, two of which are equal."""
    folder = tmp_path_factory.mktemp("database")
    for number, name in enumerate(("a.png", "b.png", "in/c.png", "d.png")):
        draw(folder / "gallery" / name, number)
    shutil.copy(folder / "gallery" / "b.png", folder / "gallery" / "again.png")
    write_checkpoint(folder / "best.pt")
    return folder


@pytest.fixture(scope="module")
def retriever(place) -> Retriever:
    return Retriever.from_checkpoint(place / "best.pt", workers=0, device="cpu").index(place / "gallery")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def fill(retriever: Retriever, size: int = 32, metadata: dict[str, str] | None = None) -> None:
    """Writes the gallery as a collection, as docs/vector-database.md does."""
    client = QdrantClient(path="database")
    config = models.VectorParams(size=size, distance=models.Distance.DOT)
    client.create_collection("catalogue", vectors_config=config, metadata=metadata)
    index = retriever.image_index
    points = []
    for row, name in enumerate(retriever.names if size == 32 else ()):
        image = index.table[name]
        vector = index.vectors.targets(np.array([image.vector]))[0, 0].tolist()
        points.append(models.PointStruct(id=row, vector=vector, payload={"name": name, "digest": image.digest.hex()}))
    if points:
        client.upsert("catalogue", points)
    client.close()


def opened(retriever: Retriever, place: Path, address: str = ADDRESS) -> DatabaseRetriever:
    parsed = DatabaseAddress.parse(address)
    return DatabaseRetriever(retriever.composer, retriever.weights, retriever.device, parsed, place / "gallery")


def test_the_endpoint_answers_as_over_an_index(retriever, place):
    """Also for an upload with the pixels of two images of the gallery, which are left out."""
    fill(retriever, metadata={"image_side": image_side_hash(retriever.composer, retriever.weights)})
    database = opened(retriever, place)
    assert (len(database), database.names) == (5, retriever.names)
    assert "in/c.png" in database
    assert "c.png" not in database
    requests = [
        {"data": {"reference": "a.png", "text": "is red", "k": 2}},
        {"data": {"text": "is red"}, "files": {"image": ("x.png", (place / "gallery" / "b.png").read_bytes())}},
        {"data": {"reference": "no.png", "text": "is red"}},
    ]
    answers = []
    for each in (database, retriever):
        with TestClient(create_app(SearchService(each, place / "gallery"), ["*"]), "http://127.0.0.1") as client:
            answers.append([client.post("/api/search", **request) for request in requests])
            assert client.get("/api/health").json()["images"] == 5
            assert client.get("/api/thumbnail", params={"name": "in/c.png"}).status_code == 200
    for found, wanted in zip(*answers, strict=True):
        assert found.status_code == wanted.status_code
        hits, expected = found.json().get("hits", []), wanted.json().get("hits", [])
        assert [hit["name"] for hit in hits] == [hit["name"] for hit in expected]
        assert [hit["score"] for hit in hits] == pytest.approx([hit["score"] for hit in expected], abs=1e-5)
    assert {hit["name"] for hit in answers[0][1].json()["hits"]} == {"a.png", "in/c.png", "d.png"}


def test_a_folder_that_another_client_has_opened_is_named(retriever, place):
    fill(retriever)
    client = QdrantClient(path="database")
    with pytest.raises(
        InputError, match=r"already accessed .*; end the process that uses the folder, or call close\(\)"
    ):
        opened(retriever, place)
    client.close()


def test_a_collection_that_the_network_cannot_search_is_refused(retriever, place, tmp_path):
    with pytest.raises(InputError, match=r"^--database qdrant:database/catalogue: no such folder; name a folder"):
        opened(retriever, place)
    fill(retriever, metadata={"image_side": "another"})
    with pytest.raises(InputError, match=r"best.pt: encodes images with other weights than those of qdrant:database/"):
        opened(retriever, place)
    with pytest.raises(InputError, match=r"qdrant:database/nothing: the database does not answer .*not found"):
        opened(retriever, place, "qdrant:database/nothing")
    shutil.rmtree("database")
    fill(retriever, size=8)
    with pytest.raises(InputError, match=r"expected one vector of size 32 with the distance Dot, without a name"):
        opened(retriever, place)


def put(payloads: list[dict[str, object]]) -> None:
    """Adds points whose product with every unit-norm query is large."""
    client = QdrantClient(path="database")
    for number, payload in enumerate(payloads):
        for sign in (-9.0, 9.0):
            for axis in range(32):
                vector = [sign * (row == axis) for row in range(32)]
                identity = 100 + 1_000 * number + 2 * axis + (sign > 0)
                client.upsert("catalogue", [models.PointStruct(id=identity, vector=vector, payload=payload)])
    client.close()


def test_points_without_a_name_take_no_place_of_a_hit(retriever, place):
    """Some of them are nearer to a query than every image."""
    fill(retriever)
    put([{}, {"other": 1}, {"name": None}])
    database = opened(retriever, place)
    assert database.names == retriever.names
    for reference in ("a.png", None):
        (found,) = database.search_many([database.prepare(reference, "is red")], 2)
        (wanted,) = retriever.search_many([retriever.prepare(reference, "is red")], 2)
        assert [hit.name for hit in found] == [hit.name for hit in wanted]


@pytest.mark.parametrize("name", ["../secret.png", "in/../../secret.png", "/etc/secret.png"])
def test_a_name_that_leads_out_of_the_folder_is_refused(retriever, place, name):
    """Also one that the collection did not contain when it was opened."""
    fill(retriever)
    database = opened(retriever, place)
    with pytest.raises(InputError, match="is not in the collection"):
        database.path(name)
    point = type("Point", (), {"score": 1.0, "payload": {"name": name}})
    with pytest.raises(InputError, match=r"contains the name '.*secret.png', which leads out of /"):
        database._hits([point])
    database._client.close()
    put([{"name": name}])
    with pytest.raises(InputError, match=r"qdrant:database/catalogue: contains the name .*; names are paths from"):
        opened(retriever, place)


def test_a_server_that_is_not_there_is_one_line(retriever, place):
    with pytest.raises(InputError, match=r"127.0.0.1:1/catalogue: the database does not answer .*refused"):
        opened(retriever, place, "qdrant://127.0.0.1:1/catalogue")


def test_a_proxy_that_cannot_be_meant_is_named(retriever, place, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "unix:///x")
    with pytest.raises(InputError, match=r"^HTTP_PROXY: expected a URL"):
        opened(retriever, place, "qdrant://127.0.0.1:1/catalogue")


@pytest.mark.parametrize(
    ("text", "url", "folder", "collection"),
    [
        ("qdrant://db.example/shop", "http://db.example:6333", None, "shop"),
        ("qdrant+https://db.example:443/shop", "https://db.example:443", None, "shop"),
        ("qdrant://[::1]:6333/shop", "http://[::1]:6333", None, "shop"),
        ("qdrant:folder/in/shop", None, Path("folder/in"), "shop"),
        ("qdrant:/folder/shop", None, Path("/folder"), "shop"),
    ],
)
def test_addresses(text, url, folder, collection):
    assert DatabaseAddress.parse(text) == DatabaseAddress(text, url, folder, collection)


@pytest.mark.parametrize(
    "text", ["shop", "http://h/shop", "qdrant://h", "qdrant://h/a/b", "qdrant://h:x/shop", "qdrant:shop", "qdrant:f/"]
)
def test_another_form_of_address_is_refused(text):
    with pytest.raises(InputError, match="is no address of a collection; write it as"):
        DatabaseAddress.parse(text)


def test_a_missing_client_names_the_extra(retriever, place, monkeypatch):
    monkeypatch.setattr("spn4cir.search.database.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"qdrant-client is not installed; run pip install .*\[qdrant\]"):
        opened(retriever, place)
