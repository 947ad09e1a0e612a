"""`spn4cir serve` where it cannot start: one line, before any server."""

import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spn4cir.cli import app
from spn4cir.errors import InputError
from spn4cir.extras import install_command
from spn4cir.serving import server
from tests.helpers.checkpoints import write_checkpoint
from tests.helpers.layouts import draw


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder with a checkpoint and a gallery; a server that starts fails the test."""
    draw(tmp_path / "gallery" / "a.png", 0)
    (tmp_path / "empty").mkdir()
    write_checkpoint(tmp_path / "best.pt")
    (tmp_path / "broken.pt").write_text("no weights")
    monkeypatch.setattr(server, "run", lambda *_: pytest.fail("the server was started"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(**changes) -> str:
    """What is said; the port is any that is free, unless it is named."""
    options = {"checkpoint": "best.pt", "gallery": "gallery", "port": "0", "workers": "0"} | changes
    result = CliRunner().invoke(
        app, ["serve", *(part for key, value in options.items() for part in (f"--{key}", value))]
    )
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    return result.stderr


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gallery": "empty"}, "error: empty: the gallery is empty: no file ends in .png"),
        ({"gallery": "nowhere"}, "error: nowhere: no such folder; give a folder of images"),
        ({"checkpoint": "nowhere.pt"}, "error: nowhere.pt: no such "),
        ({"checkpoint": "broken.pt"}, "error: broken.pt: "),
        ({"family": "resnet"}, "error: family 'resnet' is not known"),
        ({"host": "nowhere.invalid"}, "error: --host nowhere.invalid: no such address; use 127.0.0.1"),
        ({"host": "192.0.2.1"}, "error: --host 192.0.2.1: is no address of this machine; use 127.0.0.1 or 0.0.0.0"),
        ({"index": "empty"}, "empty: is no index"),
        (
            {"public-name": "https://a.example"},
            "error: --public-name https://a.example: expected the name of another host",
        ),
        ({"annotate": "best.pt"}, "error: best.pt: begins or ends with a zero byte"),
        ({"annotate": "nowhere/q.csv"}, "error: nowhere: no such folder"),
        ({"annotate": "q.csv", "split": "dev"}, "error: --split 'dev' is not known; choose one of train, val, test"),
        ({"database": "shop"}, "error: --database shop: is no address of a collection; write it as qdrant://"),
        ({"database": "qdrant:a/b", "index": "i"}, "error: --database: the images are not indexed here; leave out"),
        ({"seed": "3"}, "error: --seed needs --annotate FILE; add it, or leave out --seed"),
    ],
)
def test_invalid_options_are_one_line(place, changes, said):
    assert said in refusal(**changes)


def test_a_port_in_use_is_one_line(place):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = refusal(port=str(port))
    assert said == f"error: port {port} of 127.0.0.1: Address already in use; choose another with --port\n"


def test_without_the_packages_the_command_says_what_to_install(place, monkeypatch):
    monkeypatch.setattr(server, "_PACKAGES", ("fastapi", "no_such_package"))
    assert refusal() == f"error: serve: no_such_package not installed; run {install_command('serve')}\n"


def test_the_modules_that_start_the_server_need_none_of_the_packages():
    """So that the line of the test above can be said."""
    text = Path(server.__file__).read_text(encoding="utf-8")
    top = [line for line in text.splitlines() if line.startswith(("import ", "from "))]
    assert not [line for line in top if any(name in line for name in ("fastapi", "nicegui", "uvicorn", "starlette"))]


def test_a_free_port_is_claimed_and_given_back(place, monkeypatch):
    started = []
    monkeypatch.setattr(
        server, "run", lambda retriever, folder, claimed, *_: started.append((retriever.names, claimed))
    )
    options = ["--checkpoint", "best.pt", "--gallery", "gallery", "--port", "0", "--workers", "0"]
    assert CliRunner().invoke(app, ["serve", *options]).exit_code == 0
    ((names, claimed),) = started
    assert names == ("a.png",)
    assert claimed.fileno() == -1


@pytest.mark.parametrize("name", ["Search.Example.org", "search.example.org:8443"])
def test_the_public_name_reaches_the_server(place, monkeypatch, name):
    started = []
    monkeypatch.setattr(server, "run", lambda retriever, folder, claimed, annotator, names: started.append(names))
    options = ["--checkpoint", "best.pt", "--gallery", "gallery", "--port", "0", "--workers", "0"]
    assert CliRunner().invoke(app, ["serve", *options, "--public-name", name]).exit_code == 0
    assert started == [(name.lower(),)]


@pytest.mark.parametrize(
    "name",
    ["localhost", "127.0.0.1", "10.0.0.5", "[::1]", "*", "*.example.org", "a..b", "a.-b", "search.example.org.", ":80",
     "a:b", "a:", "https://a.example", "bücher.example", "a.example/page", ""],
)  # fmt: skip
def test_what_is_no_name_of_another_host_is_refused(name):
    with pytest.raises(InputError, match="expected the name of another host"):
        server.check_public_name(name)


def test_a_file_to_annotate_is_continued(place, monkeypatch):
    started = []
    monkeypatch.setattr(server, "run", lambda retriever, folder, claimed, annotator, names: started.append(annotator))
    (place / "q.csv").write_text("reference,target,text,split\nc.png,b.png,is red,val\n")
    options = ["--checkpoint", "best.pt", "--gallery", "gallery", "--port", "0", "--workers", "0"]
    result = CliRunner().invoke(app, ["serve", *options, "--annotate", "q.csv", "--split", "test", "--goal", "7"])
    assert result.exit_code == 0
    assert "q.csv: 2 names are not images of the gallery, such as 'c.png'" in result.stderr
    (annotator,) = started
    assert (annotator.goal, annotator.file.split, len(annotator.file.rows())) == (7, "test", 1)
