"""Environment variables of the hub that cannot be meant are one line of error in every command and stage."""

import subprocess
import sys
from pathlib import Path

import pytest

from spn4cir.errors import InputError
from spn4cir.hub.variables import check_hub_variables

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
