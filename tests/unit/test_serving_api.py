"""The JSON endpoint: it finds the hits of the retriever, and reports errors in a sentence."""

import json
import os
import re
import shutil
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from spn4cir import Retriever
from spn4cir.serving import service as service_module
from spn4cir.serving.api import create_app
from spn4cir.serving.server import index_gallery
from spn4cir.serving.service import SearchService
from spn4cir.serving.uploads import MAX_BYTES
from tests.helpers.checkpoints import write_checkpoint
from tests.helpers.layouts import draw

NAMES = ("a b#?&.png", "in/deep/e.bmp", "in/c.jpeg", "ü.webp", "<b>.png", "%2e%2e.png", "g.gif", "h.png")
HOSTS = ["localhost", "127.0.0.1", "[::1]"]
TEXT = {"text": "is red"}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A gallery, an image outside of it, and a link to that image."""
    folder = tmp_path_factory.mktemp("serving")
    for number, name in enumerate(NAMES):
        draw(folder / "gallery" / name, number)
    draw(folder / "secret.png", 50)
    (folder / "gallery" / "link.png").symlink_to(folder / "secret.png")
    (folder / "gallery" / "broken.png").write_bytes(b"no picture")
    write_checkpoint(folder / "best.pt", stage=2)
    return folder


@pytest.fixture(scope="module")
def retriever(place) -> Retriever:
    made = Retriever.from_checkpoint(place / "best.pt", workers=0, device="cpu")
    index_gallery(made, place / "gallery")
    return made


@pytest.fixture(scope="module")
def client(retriever, place):
    app = create_app(SearchService(retriever, place / "gallery"), HOSTS)
    with TestClient(app, "http://127.0.0.1", raise_server_exceptions=False) as opened:
        yield opened


def search(client, picture: Path | bytes | str, **fields):
    """A search from a name of the gallery, a file or its bytes."""
    if isinstance(picture, str):
        return client.post("/api/search", data=TEXT | {"reference": picture} | fields)
    data = picture.read_bytes() if isinstance(picture, Path) else picture
    return client.post("/api/search", data=TEXT | fields, files={"image": ("x.png", data)})


def refused(answer, status: int, part: str) -> None:
    assert (answer.status_code, list(answer.json())) == (status, ["detail"])
    assert part in answer.json()["detail"]


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def claimed_png(width: int, height: int) -> bytes:
    """A PNG whose header claims a size, with next to no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("name", NAMES)
def test_a_search_by_name_finds_what_the_retriever_finds(client, retriever, place, name):
    expected = retriever.search(retriever.path(name), "is red", k=5)
    answer = search(client, name, k=5)
    assert answer.status_code == 200
    assert list(answer.json()) == ["hits"]
    assert [hit["name"] for hit in answer.json()["hits"]] == [hit.name for hit in expected]
    scores = [hit["score"] for hit in answer.json()["hits"]]
    assert scores == pytest.approx([hit.score for hit in expected], abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_an_upload_of_a_gallery_image_finds_the_same(client, place, name):
    assert search(client, place / "gallery" / name).json() == search(client, name).json()


def test_ten_are_found_by_default_and_a_small_gallery_is_returned_whole(client, place):
    assert {hit["name"] for hit in search(client, "h.png", k=1000).json()["hits"]} == {*NAMES} - {"h.png"}
    everything = search(client, place / "secret.png", k=1000).json()["hits"]
    assert {hit["name"] for hit in everything} == {*NAMES}
    assert search(client, place / "secret.png").json()["hits"] == everything
    assert search(client, place / "secret.png", k=3).json()["hits"] == everything[:3]


def test_a_form_s_empty_fields_are_none(client):
    fields = {"reference": (None, "h.png"), "text": (None, "is red"), "k": (None, ""), "image": ("", b"")}
    assert client.post("/api/search", files=fields).json() == search(client, "h.png").json()


@pytest.mark.parametrize(
    ("fields", "status", "part"),
    [
        ({"text": "is red"}, 422, "send either 'image' (a file) or 'reference'"),
        ({"text": "is red", "reference": ""}, 422, "send either"),
        ({"reference": "h.png"}, 422, "'text' is missing"),
        ({"reference": "h.png", "text": " \n"}, 422, "the text is empty"),
        ({"reference": "h.png", "text": "\x1c\x85\ufeff"}, 422, "the text is empty"),
        ({"reference": "h.png", "text": "x" * 2001}, 422, "2,001 characters, more than 2,000"),
        ({"reference": "nowhere.png", "text": "x"}, 404, "no image of the gallery is called 'nowhere.png'"),
        ({"reference": "broken.png", "text": "x"}, 404, "no image of the gallery"),
        ({"text": "x", "image": "h.png"}, 422, "'image' must be a file"),
        *(
            ({"reference": "h.png", "text": "x", "k": k}, 422, f"'k' must be a whole number from 1 to 1,000, not '{k}'")
            for k in ("0", "-1", "1001", "1.5", "ten", "9" * 30)
        ),
    ],
)
def test_fields_that_are_invalid_get_a_sentence(client, fields, status, part):
    refused(client.post("/api/search", data=fields), status, part)


@pytest.mark.parametrize("charset", ["utf-7", "raw_unicode_escape", "undefined", "idna", "zip", "nothing"])
def test_texts_that_are_no_unicode_get_a_sentence(client, charset):
    text = {"utf-7": b"+2AA-", "raw_unicode_escape": b"\\ud800"}.get(charset, b"\xff\xfe..")
    fields = [(b"text", text), (b"reference", b"h.png")]
    body = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="' + name + b'"\r\n\r\n' + value + b"\r\n"
        for name, value in fields
    )
    headers = {"content-type": f"multipart/form-data; boundary=x; charset={charset}"}
    answer = client.post("/api/search", content=body + b"--x--\r\n", headers=headers)
    assert answer.status_code in ((422,) if charset in ("utf-7", "raw_unicode_escape") else (200, 400, 404, 422))
    if charset == "utf-7":
        refused(answer, 422, "the text is not valid Unicode")


def test_a_file_and_a_name_are_one_too_many(client, place):
    refused(search(client, place / "secret.png", reference="h.png"), 422, "and not both")


@pytest.mark.parametrize("body", [b"", b"{}", b"--x\r\nbroken"])
@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data", "multipart/form-data; boundary=x"])
def test_a_request_that_is_no_form_gets_a_sentence(client, body, kind):
    answer = client.post("/api/search", content=body, headers={"content-type": kind})
    assert answer.status_code in (400, 422)
    assert isinstance(answer.json()["detail"], str)


@pytest.mark.parametrize(
    "name",
    [
        "../secret.png",
        "../gallery/h.png",
        "in/../h.png",
        "./h.png",
        "%2e%2e/secret.png",
        "..\\secret.png",
        "h.png\0",
        "link.png",
        "in",
        "",
    ],
)
def test_names_are_looked_up_and_nothing_else_is_read(client, place, name):
    for asked in (name, str(place / name)):
        assert client.get("/api/thumbnail", params={"name": asked}).status_code == 404
        assert search(client, asked).status_code == (404 if asked else 422)


def test_an_image_that_became_a_link_out_of_the_gallery_is_not_read(tmp_path, place):
    gallery = tmp_path / "gallery"
    for name in ("a.png", "b.png", "c.png"):
        draw(gallery / name, ord(name[0]))
    retriever = Retriever.from_checkpoint(place / "best.pt", workers=0, device="cpu")
    index_gallery(retriever, gallery)
    (gallery / "a.png").unlink()
    (gallery / "a.png").symlink_to(place / "secret.png")
    (gallery / "b.png").write_bytes(b"no picture any more")
    (gallery / "c.png").unlink()
    (gallery / "c.png").symlink_to(gallery / "c.png")
    with TestClient(create_app(SearchService(retriever, gallery), HOSTS), "http://127.0.0.1") as client:
        refused(search(client, "a.png"), 404, "'a.png' is no longer in the gallery")
        refused(client.get("/api/thumbnail", params={"name": "a.png"}), 404, "no longer in the gallery")
        refused(client.get("/api/thumbnail", params={"name": "b.png"}), 404, "'b.png' can no longer be read")
        refused(client.get("/api/thumbnail", params={"name": "c.png"}), 404, "'c.png' can no longer be read")
        assert search(client, "c.png").status_code == 422
        broken = search(client, "b.png")
        refused(broken, 422, "b.png")
        assert str(tmp_path) not in broken.text


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
FRAMES = {"save_all": True, "append_images": [Image.new("RGB", (60, 40), "red")]}


@pytest.mark.parametrize(
    "data",
    [
        *(encoded(NOISE.convert(mode)) for mode in ("1", "L", "LA", "P", "RGBA", "I;16")),
        encoded(NOISE.convert("CMYK"), "JPEG"),
        *(encoded(NOISE, kind) for kind in ("GIF", "WEBP", "BMP")),
        *(encoded(NOISE, kind, **FRAMES) for kind in ("GIF", "WEBP", "PNG")),
        encoded(Image.new("RGB", (1, 1))),
        encoded(Image.new("RGB", (2000, 1))),
        encoded(Image.new("1", (10_000, 5_000))),
    ],
)
def test_images_of_every_mode_are_searched_with(client, data):
    assert len(search(client, data).json()["hits"]) == len(NAMES)


@pytest.mark.parametrize(
    ("data", "status", "part"),
    [
        (b"\0", 415, "broken or its type is not supported; send PNG, JPEG, WebP, BMP or GIF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "its type is not supported"),
        (encoded(NOISE, "TIFF"), 415, "its type is not supported"),
        (encoded(NOISE)[:-900], 422, "the image is broken"),
        (encoded(NOISE, "JPEG")[:-200], 422, "the image is broken"),
        (claimed_png(10_000, 5_001), 413, "10,000 x 5,001 pixels, more than the limit of 50 million"),
        (claimed_png(60_000, 60_000), 413, "far more pixels than the limit of 50 million"),
        (claimed_png(10_000, 5_000), 422, "the image is broken"),
        (encoded(Image.new("L", (20_000_000, 1))), 422, "narrow"),
        (encoded(Image.new("RGBA", (14_000, 1))), 422, "too narrow (14,000 x 1 pixels); crop it"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_images_that_are_invalid_get_a_sentence(client, data, status, part):
    refused(search(client, data), status, part)


def test_an_empty_file_with_a_name_gets_a_sentence(client):
    refused(search(client, b""), 422, "the image is empty")


def test_uploads_end_at_ten_megabytes(client, place):
    data = (place / "secret.png").read_bytes()
    padded = data + bytes(MAX_BYTES - len(data))
    assert search(client, padded).json() == search(client, data).json()
    refused(search(client, padded + b"\0"), 413, "larger than 10 MB")
    refused(search(client, padded * 2), 413, "larger than 10 MB")


def test_an_upload_without_a_length_is_cut_off_while_it_is_read(client):
    sent = []

    def body():
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
        for number in range(100):
            sent.append(number)
            yield bytes(1_000_000)

    headers = {"content-type": "multipart/form-data; boundary=x"}
    refused(client.post("/api/search", content=body(), headers=headers), 413, "larger than 10 MB")


def test_a_text_that_is_cut_is_searched_for_with_a_warning(client):
    answer = search(client, "h.png", text="red " * 90).json()
    assert sorted(answer) == ["hits", "warning"]
    assert "92 tokens" in answer["warning"]


def test_health_names_the_network_without_the_folders_of_the_server(client, place, monkeypatch):
    monkeypatch.chdir(place.parent)
    assert client.get("/api/health").json()["weights"] == f"{place.name}/best.pt"
    monkeypatch.chdir(place)
    assert client.get("/api/health").json()["weights"] == "best.pt"


def test_health_and_names(client, place):
    shown = f"{place.name}/best.pt"
    assert client.get("/api/health").json() == {"status": "ok", "family": "clip", "weights": shown, "images": 8}
    names = sorted(NAMES)
    assert client.get("/api/images").json() == {"total": 8, "names": names}
    assert client.get("/api/images", params={"offset": 3, "limit": 2}).json() == {"total": 8, "names": names[3:5]}
    assert client.get("/api/images", params={"contains": "IN/"}).json()["names"] == ["in/c.jpeg", "in/deep/e.bmp"]
    refused(client.get("/api/images", params={"limit": 1001}), 422, "'limit': ")


@pytest.mark.parametrize("name", NAMES)
def test_a_thumbnail_is_a_small_webp(client, name):
    answer = client.get("/api/thumbnail", params={"name": name})
    assert answer.headers["content-type"] == "image/webp"
    assert max(Image.open(BytesIO(answer.content)).size) <= 256


def test_a_large_thumbnail_has_at_most_1024_pixels_a_side(tmp_path, place):
    Image.new("RGB", (3000, 1500), "red").save(tmp_path / "wide.png")
    made = Retriever.from_checkpoint(place / "best.pt", workers=0, device="cpu").index(tmp_path)
    with TestClient(create_app(SearchService(made, tmp_path), HOSTS), "http://127.0.0.1") as opened:
        sizes = [
            Image.open(BytesIO(opened.get("/api/thumbnail", params={"name": "wide.png"} | large).content)).size
            for large in ({}, {"large": "true"})
        ]
        assert sizes == [(256, 128), (1024, 512)]
        refused(opened.get("/api/thumbnail", params={"name": "wide.png", "large": "huge"}), 422, "'large': ")


def test_the_description_names_every_answer(client):
    described = client.get("/openapi.json").json()
    assert sorted(described["paths"]) == ["/api/health", "/api/images", "/api/search", "/api/thumbnail"]
    operation = described["paths"]["/api/search"]["post"]
    assert sorted(operation["responses"]) == ["200", "400", "404", "408", "413", "415", "422", "503"]
    schemas = described["components"]["schemas"]
    for status, answer in operation["responses"].items():
        model = answer["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
        assert model == ("SearchAnswer" if status == "200" else "Problem")
        assert all(field["description"] for field in schemas[model]["properties"].values())
    form = operation["requestBody"]["content"]["multipart/form-data"]
    assert form["encoding"]["image"]["contentType"] == "image/png, image/jpeg, image/webp, image/bmp, image/gif"
    body = form["schema"]["$ref"].rsplit("/", 1)[1]
    assert schemas[body]["oneOf"] == [{"required": ["image"]}, {"required": ["reference"]}]
    fields = schemas[body]["properties"]
    assert sorted(fields) == ["image", "k", "reference", "text"]
    assert (fields["k"]["minimum"], fields["k"]["maximum"], fields["k"]["default"]) == (1, 1000, 10)
    assert (fields["text"]["minLength"], fields["text"]["maxLength"]) == (1, 2000)
    assert fields["text"]["pattern"] == r"[^\s\x1c-\x1f\x85\ufeff]"
    assert {name: field["type"] for name, field in fields.items()} == {
        "text": "string", "image": "string", "reference": "string", "k": "integer",
    }, "a form has no null"  # fmt: skip
    assert all(field["description"] for field in fields.values())
    assert "HTTPValidationError" not in json.dumps(described)


def test_other_paths_and_methods_are_answered_in_json(client):
    refused(client.get("/api/nothing"), 404, "/openapi.json lists the endpoints")
    wrong = client.get("/api/search")
    refused(wrong, 405, "use POST here")
    assert wrong.headers["allow"] == "POST"
    refused(client.request("TRACE", "/api/health"), 405, "use GET here")


def test_pages_of_other_sites_may_not_ask(client):
    """Neither by a form or script of theirs, nor by a name of theirs that leads here."""
    fields = TEXT | {"reference": "h.png"}
    for origin in (
        "http://evil.example",
        "http://127.0.0.1.evil.example",
        "http://127.0.0.1@evil.example",
        "null",
        "http://[",
    ):
        refused(client.post("/api/search", data=fields, headers={"origin": origin}), 403, "other sites")
    assert client.post("/api/search", data=fields, headers={"origin": "http://127.0.0.1"}).status_code == 200
    assert client.get("/api/health", headers={"host": "evil.example"}).status_code == 400
    assert client.get("/api/health", headers={"host": "localhost:7860"}).status_code == 200


def test_a_proxy_may_serve_it_by_its_public_name(retriever, place):
    """By its name in Host, or with another Host and the name in Origin; other names are refused as before."""
    app = create_app(
        SearchService(retriever, place / "gallery"), HOSTS, ["search.example.org", "other.example.net:8443"]
    )
    fields = TEXT | {"reference": "h.png"}
    with TestClient(app, "http://127.0.0.1", raise_server_exceptions=False) as client:
        for headers in (
            {"host": "search.example.org", "origin": "https://search.example.org"},
            {"host": "127.0.0.1:7860", "origin": "https://search.example.org"},
            {"host": "127.0.0.1:7860", "origin": "https://SEARCH.example.org"},
            {"host": "127.0.0.1:7860", "origin": "https://other.example.net:8443"},
            {"host": "search.example.org"},
        ):
            assert client.post("/api/search", data=fields, headers=headers).status_code == 200
        assert client.get("/api/health", headers={"host": "other.example.org"}).status_code == 400
        for origin in (
            "https://other.example.org",
            "https://evilsearch.example.org",
            "https://search.example.org.evil.example",
            "https://search.example.org:9000",
            "https://other.example.net",
            "https://me@search.example.org",
            "file://search.example.org",
            "null",
        ):
            refused(client.post("/api/search", data=fields, headers={"origin": origin}), 403, "other sites")


def test_large_uploads_delay_no_search_by_name(retriever, place, monkeypatch):
    """Uploads are decoded by threads of their own."""
    began, end = threading.Semaphore(0), threading.Event()

    def wait(_):
        began.release()
        assert end.wait(60)
        return Image.new("RGB", (8, 8))

    monkeypatch.setattr(service_module, "decode_upload", wait)
    app = create_app(SearchService(retriever, place / "gallery"), HOSTS)
    with TestClient(app, "http://127.0.0.1") as client, ThreadPoolExecutor(2) as visitors:
        uploads = [visitors.submit(search, client, b"large") for _ in range(2)]
        assert began.acquire(timeout=60)
        assert began.acquire(timeout=60)
        assert search(client, "h.png").status_code == 200
        assert not any(upload.done() for upload in uploads)
        end.set()
        assert [upload.result().status_code for upload in uploads] == [200, 200]


def test_every_answer_has_security_headers(client):
    for path in ("/api/health", "/api/nothing"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers


def test_scripts_of_a_page_need_the_nonce_of_its_answer(client):
    policies = [client.get("/api/health").headers["content-security-policy"].split("; ") for _ in range(2)]
    for policy in policies:
        assert {"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} < set(policy)
    scripts = [next(rule for rule in policy if rule.startswith("script-src ")) for policy in policies]
    assert re.fullmatch(r"script-src 'self' 'nonce-[\w-]{22}' 'unsafe-eval'", scripts[0])
    assert scripts[0] != scripts[1]


def test_a_full_server_says_when_to_come_again(client, monkeypatch):
    monkeypatch.setattr(service_module, "_IN_FLIGHT", 0)
    full = search(client, "h.png")
    refused(full, 503, "try again in a second")
    assert full.headers["retry-after"] == "1"


def test_a_gallery_of_links_that_lead_out_is_empty(tmp_path, place):
    (tmp_path / "gallery").mkdir()
    (tmp_path / "gallery" / "link.png").symlink_to(place / "secret.png")
    retriever = Retriever.from_checkpoint(place / "best.pt", workers=0, device="cpu")
    with pytest.raises(Exception, match="every image is a link that leads out of the folder"):
        index_gallery(retriever, tmp_path / "gallery")


def test_an_image_whose_name_is_not_utf_8_is_left_out(tmp_path, place, capsys):
    draw(tmp_path / "gallery" / "a.png", 0)
    shutil.copy(tmp_path / "gallery" / "a.png", os.fsencode(tmp_path / "gallery") + b"/\xff.png")
    retriever = Retriever.from_checkpoint(place / "best.pt", workers=0, device="cpu")
    index_gallery(retriever, tmp_path / "gallery")
    assert retriever.names == ("a.png",)
    said = capsys.readouterr().err
    assert "left out because their names are not UTF-8: \\udcff.png\n" in said
    assert "cannot be read" not in said


def test_what_is_left_out_is_named(tmp_path, place, capsys):
    retriever = Retriever.from_checkpoint(place / "best.pt", workers=0, device="cpu")
    index_gallery(retriever, place / "gallery")
    said = capsys.readouterr().err
    assert "left out because they cannot be read: broken.png\n" in said
    assert "left out because they are links that lead out of the gallery: link.png\n" in said
