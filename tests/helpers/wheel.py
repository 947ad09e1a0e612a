"""The package's wheel, and an environment that contains nothing but it and what it needs."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The folder in which `make wheel` built the wheel and installed it with its dependencies.
MADE = "SPN4CIR_WHEEL"
# Pip takes options from the environment, and Python folders.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))} | {
    "PIP_NO_INDEX": "1",
    "PIP_CONFIG_FILE": os.devnull,
}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without network."""
    folder = Path(os.environ.get(MADE) or tmp_path_factory.mktemp("wheel"))
    if MADE not in os.environ:
        pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the wheel in a folder, as pip puts them in site-packages."""
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="session")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, which finds the dependencies in the environment of the tests.

    A line of a .pth file adds a folder whose own .pth files, such as that of an editable installation, are not read.
    """
    if MADE in os.environ:
        return Path(os.environ[MADE], "environment")
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    pip("--python", folder / "bin" / "python", "install", "--no-deps", wheel)
    (packages,) = folder.glob("lib/python*/site-packages")
    found = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
    (packages / "dependencies.pth").write_text("".join(f"{path}\n" for path in found))
    return folder


def pip(*arguments: object) -> str:
    """Runs pip without an index. Returns what it prints."""
    words = [str(each) for each in arguments]
    done = subprocess.run([sys.executable, "-m", "pip", *words], env=_ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, f"pip {' '.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout
