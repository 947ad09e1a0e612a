"""Keys and tokens of the environment are in no output: files, log lines, and error messages."""

from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
from typer.testing import CliRunner

import stages.report
import stages.triplets
from spn4cir.cli import app
from spn4cir.config.load import load_params
from spn4cir.errors import InputError
from spn4cir.hub import download
from spn4cir.hub.fetch import fetch
from stages.common import Job
from tests.helpers.chat_server import ChatServer, Fault
from tests.helpers.chat_server import refusal as refused
from tests.helpers.checkpoints import write_checkpoint
from tests.helpers.hub_server import REPOSITORY, Hub, point_at, serve
from tests.helpers.layouts import write_fashioniq
from tests.helpers.reports import write_run
from tests.helpers.secrets import SECRETS, holders
from tests.unit.test_llm_writer import chat, job  # noqa: F401 - fixtures

MakeJob = Callable[..., Job]


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(autouse=True)
def nothing_shown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """After each test: neither what it printed nor a file that it wrote contains a planted value."""
    yield
    printed = "".join(capfd.readouterr())
    assert [name for name, value in SECRETS.items() if value in printed] == []
    assert holders(tmp_path) == []


def test_planted_values_are_found(tmp_path: Path) -> None:
    """The check can fail."""
    path = tmp_path / "folder" / "lock"
    path.parent.mkdir()
    path.write_text(f"key: {SECRETS['HF_TOKEN']}\n")
    assert holders(tmp_path) == [("folder/lock", "HF_TOKEN")]
    path.unlink()


def test_a_run_with_a_served_model_writes_no_key(chat: ChatServer, job: MakeJob, tmp_path: Path) -> None:  # noqa: F811
    """The server receives the key. Answers, triplets, their table and its origin do not contain it."""
    stages.triplets.main(job(chat.url))
    assert set(chat.keys) == {f"Bearer {SECRETS['SPN4CIR_API_KEY']}"}
    assert {"answers.jsonl", "texts.parquet", "source.json"} <= {path.name for path in tmp_path.rglob("*")}


KEY = SECRETS["SPN4CIR_API_KEY"]


@pytest.mark.parametrize(
    "answer",
    [
        refused(401, f"Incorrect API key provided: {KEY}"),
        refused(403, f"{'x' * 190} {KEY}"),
        refused(400, f"bad request of {KEY}"),
        Fault(200, f"not JSON {KEY}".encode()),
    ],
)
def test_a_server_that_repeats_the_key(
    chat: ChatServer,  # noqa: F811
    job: MakeJob,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    answer: Fault,
) -> None:
    monkeypatch.setattr("spn4cir.served.urls._PAUSES", (0.001, 0.001))
    chat.reply = lambda body: answer
    said = ""
    try:
        stages.triplets.main(job(chat.url))
    except InputError as error:
        said = str(error)
    assert KEY not in said
    assert chat.keys


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(download, "_SECONDS_BETWEEN_ATTEMPTS", 0.0)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", False)
    with serve() as hub:
        point_at(monkeypatch, hub.endpoint, tmp_path / "hf")
        yield hub


def test_the_hub_gets_the_token_and_other_hosts_do_not(hub: Hub) -> None:
    hub.publish({"best.pt": b"weights"})
    fetch(REPOSITORY, "best.pt", "main")
    files = [request for request in hub.requests if "/resolve/" in request.path]
    assert files
    assert all(request.authorised for request in files)
    assert [request for request in hub.downloads() if request.authorised] == []


@pytest.mark.parametrize("answer", [(401, "RepoNotFound"), (403, "GatedRepo"), (404, "EntryNotFound"), (400, "Other")])
def test_a_hub_that_repeats_the_token(hub: Hub, answer: tuple[int, str]) -> None:
    status, code = answer
    hub.refusal = (status, code)
    hub.said = f"{code} for {SECRETS['HF_TOKEN']}"
    with pytest.raises(InputError) as raised:
        fetch(REPOSITORY, "best.pt", "main")
    assert SECRETS["HF_TOKEN"] not in str(raised.value)


@pytest.mark.parametrize("refusal", [None, (401, "RepoNotFound"), (403, "GatedRepo"), (503, "Busy")])
def test_a_password_in_the_address_of_the_hub(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: tuple[int, str] | None
) -> None:
    """HF_ENDPOINT may name a mirror as https://user:password@host."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    hub.headers, hub.refusal = False, refusal  # without headers, the hub is not recognised
    hub.publish({"best.pt": b"weights"})
    password = SECRETS["HF_ENDPOINT_PASSWORD"]
    point_at(monkeypatch, hub.endpoint.replace("http://", f"http://me:{password}@"), tmp_path / "hf")
    with pytest.raises(InputError) as raised:
        fetch(REPOSITORY, "best.pt", "main")
    assert f"127.0.0.1:{hub.port}" in str(raised.value)
    assert password not in str(raised.value)


def test_scores_a_model_card_and_a_description_contain_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_fashioniq(Path("fiq"))
    write_checkpoint(Path("best.pt"), stage=2)
    for command in (
        "validate --layout fashioniq --root fiq --checkpoint best.pt --json metrics.json --workers 0",
        "export --to hub-folder --checkpoint best.pt --out model --metrics metrics.json --scored-on fiq",
        "inspect best.pt --json description.json",
        "inspect absent.pt",
    ):
        done = CliRunner().invoke(app, command.split())
        print(done.output)  # searched after the test
        assert done.exit_code == (1 if "absent.pt" in command else 0), done.output
    assert all(Path(name).is_file() for name in ("metrics.json", "model/README.md", "description.json"))


def test_a_report_contains_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path)
    monkeypatch.chdir(tmp_path)
    stages.report.main(Job(load_params(), "demo_fiq", "clip"))
    assert (tmp_path / "data/report/demo_fiq/clip.html").is_file()
