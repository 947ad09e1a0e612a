"""The command that installs an extra works where it is printed: no index has the package."""

import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

from spn4cir import extras
from spn4cir.extras import install_command
from tests.helpers.wheel import ROOT, pip

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
OF_A_CLONE = "pip install -e '.[serve]' in a clone of the repository"


def record(monkeypatch: pytest.MonkeyPatch, origin: object) -> None:
    """Replaces what the installer recorded."""
    text = origin and json.dumps(origin)
    monkeypatch.setattr(extras, "distribution", lambda _: type("Record", (), {"read_text": lambda *_: text})())


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("clone", {"dir_info": {"editable": True}}, "-e "),
        ("my clone", {"dir_info": {}}, ""),
        ("spn4cir-1-py3-none-any.whl", {"archive_info": {}}, ""),
    ],
)
def test_it_names_what_the_package_was_installed_from(monkeypatch, tmp_path, name, kind, options):
    (tmp_path / name).mkdir()
    record(monkeypatch, {"url": (tmp_path / name).as_uri(), **kind})
    command = install_command("serve")
    assert command == f"pip install {options}'{tmp_path / name}[serve]'"
    assert shlex.split(command)[-1] == f"{tmp_path / name}[serve]"


@pytest.mark.parametrize(
    "origin",
    [None, {"url": "file:///no/such/folder", "dir_info": {}}, {"url": "https://example.org/a.git", "vcs_info": {}}],
)
def test_without_a_path_it_is_for_a_clone(monkeypatch, origin):
    record(monkeypatch, origin)
    assert install_command("serve") == OF_A_CLONE


def test_without_an_installation_it_is_for_a_clone(monkeypatch):
    """A project of `spn4cir train` has a copy of the code."""

    def absent(name: str) -> None:
        raise extras.PackageNotFoundError(name)

    monkeypatch.setattr(extras, "distribution", absent)
    assert install_command("serve") == OF_A_CLONE


def test_of_a_wheel_pip_accepts_it(environment, wheel):
    """The packages of the extras are there already."""
    python = environment / "bin" / "python"
    code = "from spn4cir.extras import install_command; print(install_command('dvc,serve'))"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    printed = done.stdout.strip()
    assert printed == f"pip install '{wheel}[dvc,serve]'"
    _, *words = shlex.split(printed)
    pip("--python", python, *words, "--dry-run")


def test_every_extra_that_the_code_names_exists():
    found = [name for path in sources() for name in re.findall(r"install_command\('(\w+)'\)", path.read_text())]
    assert len(found) > 4
    assert set(found) <= EXTRAS.keys()


def test_no_message_and_no_page_takes_the_package_from_an_index():
    texts = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").glob("*.ipynb"), *sources()]
    wrong = re.compile(r"install(?: -\S+)*['\" ]+spn4cir\b|'spn4cir\[")
    assert [str(path.relative_to(ROOT)) for path in texts if wrong.search(path.read_text(encoding="utf-8"))] == []


def sources() -> list[Path]:
    folders = ("spn4cir", "stages", "demo", "docsite")
    return [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
