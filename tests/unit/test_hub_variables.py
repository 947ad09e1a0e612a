"""Environment variables of the hub that cannot be meant are one line of error where the hub is used or imported."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from spn4cir.cli import app
from spn4cir.composers.hosted import base_network
from spn4cir.errors import InputError
from spn4cir.hub.fetch import fetch
from spn4cir.hub.variables import check_hub_variables, check_import_variables, check_proxies
from spn4cir.positives.llava import load_captioner
from spn4cir.projects.hub_tables import fetch_tables

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("HF_HUB_DOWNLOAD_TIMEOUT", "abc", "expected whole seconds, got 'abc'; set it to a number"),
        ("HF_HUB_ETAG_TIMEOUT", "1.5", "expected whole seconds, got '1.5'"),
        ("HF_TOKEN", "hf_é", "contains a character that no token has; copy it again"),
        ("HUGGING_FACE_HUB_TOKEN", "hf_a\nb", "contains a character that no token has"),
        ("HF_ENDPOINT", "http://[::1", r"expected a URL such as https://host, got 'http://\[::1'; correct or unset it"),
        ("HF_ENDPOINT", "mirror.example", "expected a URL"),
        ("HTTPS_PROXY", "http://u:p@[::1", r"got 'http://\*\*\*@\[::1'"),
        ("http_proxy", "http://proxy:0x", "expected a URL"),
    ],
)
def test_what_cannot_be_meant_is_named(name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=rf"^{name}: .*{message}"):
        check_hub_variables()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HF_HUB_ETAG_TIMEOUT", "30"),
        ("HF_TOKEN", "hf_abc\n"),
        ("HF_ENDPOINT", "https://user:password@mirror.example:8443/hub"),
        ("HTTPS_PROXY", "proxy.example:3128"),
        ("ALL_PROXY", "socks5://[::1]:1080"),
        ("HF_ENDPOINT", ""),
    ],
)
def test_what_can_be_meant_is_not(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    check_hub_variables()


@pytest.mark.parametrize(
    "use",
    [
        lambda: fetch("own/er", "best.pt", "main"),
        lambda: fetch_tables("own/er", "main", ()),
        lambda: base_network("BlipForImageTextRetrieval", "blip", "own/er", None),
        lambda: load_captioner("own/er", None, torch.float32, torch.device("cpu"), "none"),
        check_proxies,
    ],
)
def test_uses_of_the_hub_name_the_variable(use: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "unix:///x")
    with pytest.raises(InputError, match=r"^HTTP_PROXY: expected a URL"):
        use()


# Values that only a use of the hub refuses.
LATE = {"HTTP_PROXY": "unix:///x", "HF_TOKEN": "hf_é", "HF_ENDPOINT": "mirror.example"}


@pytest.mark.parametrize("name", LATE)
def test_a_local_command_runs(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(name, LATE[name])
    check_import_variables()
    done = CliRunner().invoke(app, ["inspect", str(tmp_path / "best.pt")])
    assert f"{tmp_path / 'best.pt'}: " in done.output


def test_the_values_do_not_end_an_import() -> None:
    """Of the hub's library, and of those that import it."""
    code = "import huggingface_hub, open_clip"
    subprocess.run((sys.executable, "-c", code), env={**os.environ, **LATE}, check=True, timeout=120)


def test_a_value_that_ends_an_import_is_named_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://[::1")
    with pytest.raises(InputError, match=r"^HF_ENDPOINT: expected a URL"):
        check_import_variables()


@pytest.mark.parametrize("command", [("spn4cir.cli", "inspect", "hf-hub:own/er"), ("stages.dedup", "demo_fiq")])
def test_commands_and_stages_end_with_one_line(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "x")
    program = "from spn4cir.cli import main; main()" if command[0] == "spn4cir.cli" else ""
    start = ("-c", program, *command[1:]) if program else ("-m", *command)
    done = subprocess.run((sys.executable, *start), cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == (
        "error: HF_HUB_ETAG_TIMEOUT: expected whole seconds, got 'x'; set it to a number such as 10, or unset it\n"
    )
