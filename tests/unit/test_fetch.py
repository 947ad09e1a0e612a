"""Published files from the hub: downloaded once, resumed, checked; one line for all that can go wrong."""

import errno
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import huggingface_hub.file_download
import pytest

from spn4cir.checkpoints.published import load_composer
from spn4cir.errors import InputError
from spn4cir.files import file_hash
from spn4cir.hub import download as hub_transfer
from spn4cir.hub.fetch import Fetched, fetch, record
from tests.helpers.checkpoints import write_checkpoint
from tests.helpers.hub_server import REPOSITORY, Cut, Hub, point_at, serve

CHUNK = 1 << 14
LARGE = bytes(range(256)) * 4096  # 1 MiB
FILE = "fiq/clip_stage1.pt"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve() as hub:
        yield hub


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "hf" / "hub"


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch, hub: Hub, cache: Path) -> None:
    """The library as it would be, had the environment named the stand-in when it was imported; and no waiting."""
    constants = huggingface_hub.constants
    point_at(monkeypatch, hub.endpoint, cache)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", CHUNK)
    monkeypatch.setattr(hub_transfer, "_SECONDS_BETWEEN_ATTEMPTS", 0.0)
    pause = namedtuple("pause", "sleep time")(lambda seconds: None, time.time)
    monkeypatch.setattr(huggingface_hub.file_download, "time", pause)
    for name in ("HF_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def no_server() -> Iterator[str]:
    """An address at which nothing listens; no other program can take its port."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def blobs(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.glob("models--*/blobs/*"))


def refused(*arguments: Any) -> str:
    """The one line of the error."""
    with pytest.raises(InputError) as caught:
        fetch(*arguments)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_a_published_checkpoint_is_fetched_and_loads(
    hub: Hub, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The redirect is followed without the token; the record contains everything except the path."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    published = write_checkpoint(tmp_path / "published.pt").read_bytes()
    commit = hub.publish({FILE: published})
    fetched = fetch(REPOSITORY, FILE, "main", sha256(published).upper())
    assert fetched.path.read_bytes() == published
    assert fetched.path.is_relative_to(cache)
    assert record(fetched) == {
        "repository": REPOSITORY,
        "revision": "main",
        "commit": commit,
        "file": FILE,
        "sha256": sha256(published),
        "size": len(published),
    }
    assert load_composer(fetched.path).family == "clip"
    told = {(r.path.split("/")[1], r.authorised) for r in hub.requests if "/author/" in r.path or "cdn" in r.path}
    assert told == {("author", True), ("cdn", False)}


def test_a_second_fetch_downloads_nothing(hub: Hub) -> None:
    """A branch is looked up; a commit is not even asked for."""
    commit = hub.publish({FILE: LARGE})
    first = fetch(REPOSITORY, FILE, "main")
    assert len(hub.downloads()) == 1
    hub.requests.clear()
    assert fetch(REPOSITORY, FILE, "main") == first
    assert {r.method for r in hub.requests} == {"HEAD"}
    hub.requests.clear()
    assert fetch(REPOSITORY, FILE, commit).path == first.path
    assert hub.requests == []


def test_a_small_file_comes_from_the_hub_itself(hub: Hub, cache: Path) -> None:
    """It has git's hash instead of sha256, and a correct pin is still accepted."""
    content = json.dumps({"names": ["a", "b"]}).encode()
    hub.publish({"cc3m.json": content}, small=frozenset({"cc3m.json"}))
    fetched = fetch(REPOSITORY, "cc3m.json", "main", sha256(content))
    assert (fetched.path.read_bytes(), fetched.sha256) == (content, sha256(content))
    assert [len(name) for name in blobs(cache)] == [40]


def test_a_branch_that_moved_brings_what_changed_alone(hub: Hub) -> None:
    hub.publish({FILE: LARGE, "other.pt": b"old"})
    old = fetch(REPOSITORY, "other.pt", "main")
    fetch(REPOSITORY, FILE, "main")
    commit = hub.publish({FILE: LARGE, "other.pt": b"new"})
    hub.requests.clear()
    assert fetch(REPOSITORY, FILE, "main").commit == commit
    assert hub.downloads() == []
    assert fetch(REPOSITORY, "other.pt", "main").path.read_bytes() == b"new"
    assert old.path.read_bytes() == b"old"


@pytest.mark.parametrize("ending", ["closed", "reset"])
def test_a_cut_connection_is_resumed(hub: Hub, ending: Any) -> None:
    """`closed` the library takes up itself, `reset` it does not; no byte that was written is asked for again."""
    hub.publish({FILE: LARGE})
    hub.cuts = [Cut(300_000, ending), Cut(200_000, ending), Cut(0, ending)]
    assert fetch(REPOSITORY, FILE, "main").sha256 == sha256(LARGE)
    begins = [int(r.range.removeprefix("bytes=").removesuffix("-")) if r.range else 0 for r in hub.downloads()]
    assert begins[0] == 0
    assert begins == sorted(begins)
    assert begins[-1] > 500_000 - 3 * CHUNK
    assert hub.bytes_sent <= len(LARGE) + 3 * CHUNK


def test_a_later_run_goes_on_where_the_first_gave_up(hub: Hub, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hub.publish({FILE: LARGE})
    hub.cuts = [Cut(700_000), *[Cut(0)] * 100]
    line = refused(REPOSITORY, FILE, "main")
    assert line.startswith(f"{REPOSITORY}/{FILE} at revision main: the download stopped at 0.7 of 1.0 MB (")
    assert line.endswith("the received bytes are kept: run again to resume")
    assert len(hub.downloads()) < 30
    hub.cuts.clear()
    hub.requests.clear()
    assert fetch(REPOSITORY, FILE, "main").path.read_bytes() == LARGE
    assert [r.range for r in hub.downloads()] == [f"bytes={700_000 // CHUNK * CHUNK}-"]
    assert hub.bytes_sent < len(LARGE) + CHUNK
    assert blobs(cache) == [sha256(LARGE)]
    assert "downloading 1.0 MB, of which 0.7 are here" in capsys.readouterr().err


def test_a_killed_download_is_resumed(hub: Hub, cache: Path) -> None:
    hub.publish({FILE: LARGE})
    hub.cuts = [Cut(700_000, "stalled")]
    code = f"from huggingface_hub import constants; constants.DOWNLOAD_CHUNK_SIZE = {CHUNK}\n{FETCH}"
    running = subprocess.Popen(
        [sys.executable, "-c", code, "main"], env=environment(hub, cache), stderr=subprocess.DEVNULL
    )
    partial = cache / "models--author--published" / "blobs" / f"{sha256(LARGE)}.incomplete"
    end = time.monotonic() + 60
    while not (partial.exists() and partial.stat().st_size > 600_000) and time.monotonic() < end:
        time.sleep(0.02)
    running.kill()
    running.wait()
    kept = partial.stat().st_size
    assert fetch(REPOSITORY, FILE, "main").sha256 == sha256(LARGE)
    assert hub.downloads()[-1].range == f"bytes={kept}-"


def test_two_runs_at_once_download_once(hub: Hub) -> None:
    hub.publish({FILE: LARGE})
    results: list[Fetched] = []
    threads = [threading.Thread(target=lambda: results.append(fetch(REPOSITORY, FILE, "main"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.sha256 for result in results] == [sha256(LARGE)] * 2
    assert len(hub.downloads()) == 1


def test_a_file_of_the_chunk_store_comes_by_plain_http(hub: Hub) -> None:
    """The library's other protocol cannot be resumed."""
    hub.publish({FILE: LARGE})
    hub.chunk_store = True
    assert fetch(REPOSITORY, FILE, "main").path.read_bytes() == LARGE
    assert len(hub.downloads()) == 1


def test_a_server_without_ranges_sends_the_whole_again(hub: Hub) -> None:
    hub.publish({FILE: LARGE})
    hub.ranges = False
    hub.cuts = [Cut(300_000)]
    assert fetch(REPOSITORY, FILE, "main").path.read_bytes() == LARGE


def test_wrong_bytes_are_removed_and_come_anew(hub: Hub, cache: Path) -> None:
    hub.publish({FILE: LARGE})
    hub.replaced[FILE] = wrong = LARGE[:-1] + b"x"
    line = refused(REPOSITORY, FILE, "main")
    assert f"at revision main: expected sha256 {sha256(LARGE)}, got {sha256(wrong)}; the copy" in line
    assert "was removed: run again to download it again" in line
    assert blobs(cache) == list(cache.glob("models--*/snapshots/*/*/*")) == []
    hub.replaced.clear()
    assert fetch(REPOSITORY, FILE, "main").path.read_bytes() == LARGE


def test_a_copy_that_changed_on_the_disk_is_removed(hub: Hub) -> None:
    commit = hub.publish({FILE: LARGE})
    path = fetch(REPOSITORY, FILE, commit).path
    path.write_bytes(b"changed")
    assert f"expected sha256 {sha256(LARGE)}, got {sha256(b'changed')}" in refused(REPOSITORY, FILE, commit)
    assert fetch(REPOSITORY, FILE, commit).path.read_bytes() == LARGE


def test_a_pin_that_the_hub_contradicts_costs_no_download(hub: Hub) -> None:
    """The cached copy is kept: it is what the hub publishes."""
    commit = hub.publish({FILE: LARGE})
    pin = "0" * 64
    line = refused(REPOSITORY, FILE, "main", pin)
    assert f"expected sha256 {pin}, got {sha256(LARGE)}, which is what the hub publishes there; correct sha256" in line
    assert hub.downloads() == []
    path = fetch(REPOSITORY, FILE, "main").path
    assert "which is what the hub publishes" in refused(REPOSITORY, FILE, commit, pin)
    assert path.read_bytes() == LARGE


def test_a_pin_guards_a_small_file(hub: Hub, cache: Path) -> None:
    hub.publish({"a.json": b"[1]"}, small=frozenset({"a.json"}))
    pin = sha256(b"[2]")
    assert f"expected sha256 {pin}, got {sha256(b'[1]')}; the copy" in refused(REPOSITORY, "a.json", "main", pin)
    assert blobs(cache) == []


def test_an_answer_of_another_size_is_not_kept(hub: Hub, cache: Path) -> None:
    hub.publish({FILE: LARGE})
    hub.replaced[FILE] = LARGE[:1000]
    line = refused(REPOSITORY, FILE, "main")
    assert f"expected {len(LARGE)} bytes but 1000 were sent; they were removed" in line
    assert blobs(cache) == []


def test_a_file_that_is_not_there_names_the_alternatives(hub: Hub) -> None:
    others = {f"data/part_{i}.json": b"[]" for i in range(12)}
    hub.publish(others | {"fiq/clip_stage2.pt": LARGE, "cirr/clip_stage1.pt": b"x"})
    said, there = refused(REPOSITORY, FILE, "main").split("; choose one of its files: ")
    assert said == f"{REPOSITORY}: has no file '{FILE}' at revision main"
    assert there.startswith("fiq/clip_stage2.pt, cirr/clip_stage1.pt, data/part_")
    assert there.count(", ") == 9
    assert there.endswith(" and 4 more")


def test_a_revision_that_is_not_there(hub: Hub) -> None:
    hub.publish({FILE: LARGE})
    line = refused(REPOSITORY, FILE, "v2")
    assert line == f"{REPOSITORY}: has no revision 'v2'; name a branch, a tag or a whole commit hash"


def test_a_repository_that_is_not_there(hub: Hub) -> None:
    line = refused("author/other", FILE, "main")
    assert line.startswith(f"author/other: is not on {hub.endpoint}, or is private; check the name")
    assert "set HF_TOKEN" in line


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        ((403, "GatedRepo"), "is gated; ask for access at {endpoint}/author/published, then log in with"),
        ((403, ""), "is not on {endpoint}, or is private"),
        ((503, ""), "{endpoint} answers with status 503; run again with a network, set HF_ENDPOINT to a mirror"),
    ],
)
def test_a_refusal(hub: Hub, refusal: tuple[int, str], message: str) -> None:
    hub.refusal = refusal
    assert message.format(endpoint=hub.endpoint) in refused(REPOSITORY, FILE, "main")


def test_an_endpoint_that_is_no_hub(hub: Hub) -> None:
    hub.publish({FILE: LARGE})
    hub.headers = False
    line = refused(REPOSITORY, FILE, "main")
    assert line.startswith(
        f"{hub.endpoint}: its response for {REPOSITORY}/{FILE} at revision main is not that of a Hugging Face hub"
    )
    assert "check HF_ENDPOINT" in line


@pytest.mark.parametrize("endpoint", [None, "nonsense"])
def test_no_network(endpoint: str | None, no_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = endpoint or no_server
    point_at(monkeypatch, endpoint)
    line = refused(REPOSITORY, FILE, "main")
    assert line.startswith(f"{REPOSITORY}/{FILE} at revision main: {endpoint} cannot be reached (")
    assert "run again with a network, set HF_ENDPOINT to a mirror, or download the file by hand" in line
    assert line.endswith(" and name it with source: path")


def test_without_a_network_the_cached_copy_serves(
    hub: Hub, no_server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run reports it, because the branch may have moved."""
    hub.publish({FILE: LARGE})
    first = fetch(REPOSITORY, FILE, "main")
    point_at(monkeypatch, no_server)
    capsys.readouterr()
    assert fetch(REPOSITORY, FILE, "main") == first
    assert f"{REPOSITORY}/{FILE} at revision main: using the cached copy (" in capsys.readouterr().err


def test_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    hub.publish({FILE: LARGE, "other.pt": b"x"})
    first = fetch(REPOSITORY, FILE, "main")
    hub.requests.clear()
    capsys.readouterr()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert fetch(REPOSITORY, FILE, "main") == first
    line = refused(REPOSITORY, "other.pt", "main")
    assert line.startswith(f"{REPOSITORY}/other.pt at revision main: is not in the cache and HF_HUB_OFFLINE is set")
    assert hub.requests == []
    assert capsys.readouterr().err == ""


def test_a_disk_without_room_is_reported_before_the_download(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.publish({FILE: LARGE})
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 1000))
    assert "needs 1 MB but the disk has 0 MB free" in refused(REPOSITORY, FILE, "main")
    assert hub.downloads() == []


def test_a_disk_that_fills_up_keeps_what_came(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.publish({FILE: LARGE})

    def fill(url: str, stream: Any, **options: Any) -> None:
        stream.write(LARGE[:500_000])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(huggingface_hub.file_download, "http_get", fill)
        line = refused(REPOSITORY, FILE, "main")
    assert ".incomplete: the disk is full; the 0.5 MB of author/published/fiq/clip_stage1.pt" in line
    assert "set HF_HOME to a folder on a larger disk" in line
    assert fetch(REPOSITORY, FILE, "main").path.read_bytes() == LARGE
    assert hub.downloads()[0].range == "bytes=500000-"


def test_a_cache_that_cannot_be_written(hub: Hub, cache: Path) -> None:
    hub.publish({FILE: LARGE})
    cache.parent.mkdir()
    cache.write_text("a file in the way")
    assert "cannot be written (" in refused(REPOSITORY, FILE, "main")


@pytest.mark.parametrize(
    ("repository", "file", "message"),
    [
        ("no name", FILE, "repository 'no name': is not a valid name on the hub; write it as owner/name"),
        (REPOSITORY, "../secret", "file '../secret': is not a path within author/published"),
        (REPOSITORY, "/etc/passwd", "file '/etc/passwd': is not a path within author/published"),
        (REPOSITORY, "", "file '': is not a path within author/published"),
    ],
)
def test_bad_names(hub: Hub, repository: str, file: str, message: str) -> None:
    assert refused(repository, file, "main").startswith(message)
    assert hub.requests == []


FETCH = f"""
import sys
from spn4cir.hub.fetch import fetch
print(fetch({REPOSITORY!r}, {FILE!r}, sys.argv[1]).path)
"""


def environment(hub: Hub, cache: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return {**kept, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(cache.parent), "NO_PROXY": "*"}


def test_the_environment_names_the_mirror_the_cache_and_offline(hub: Hub, cache: Path) -> None:
    """In a process of its own, as the library reads it at its import."""
    hub.publish({FILE: LARGE})
    lazily = FETCH.replace("print", "assert 'huggingface_hub' not in sys.modules\nprint")
    command = [sys.executable, "-c", lazily, "main"]
    found = subprocess.run(command, env=environment(hub, cache), capture_output=True, text=True, check=True)
    path = Path(found.stdout.strip())
    assert path.is_relative_to(cache)
    assert file_hash(path) == sha256(LARGE)
    assert len(hub.downloads()) == 1
    hub.requests.clear()
    offline = environment(hub, cache) | {"HF_HUB_OFFLINE": "1"}
    again = subprocess.run(command, env=offline, capture_output=True, text=True, check=True)
    absent = subprocess.run([*command[:-1], "v2"], env=offline, capture_output=True, text=True)
    assert again.stdout == found.stdout
    assert "is not in the cache and HF_HUB_OFFLINE is set" in absent.stderr
    assert hub.requests == []
