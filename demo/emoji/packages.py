"""Downloads pinned npm packages and reads their files, without unpacking or running them."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from spn4cir.errors import InputError
from spn4cir.files import check_hash

# A download of a few megabytes; npm itself tries several times.
TIMEOUT = 300
MOST_BYTES = 16 * 1024 * 1024
ROOT = "package/"


@dataclass(frozen=True)
class Package:
    """A version of an npm package; `sha256` is that of its tarball, in hex."""

    name: str
    version: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


OPENMOJI = Package("openmoji", "17.0.0", "55ee7d13485dec86e9f38c1f3a645a13382d33ff97c0cd845ee824b0aef45e68")
# Renders SVG in WebAssembly, so that the pixels are equal on every machine.
RESVG = Package("@resvg/resvg-wasm", "2.6.2", "ff51acbb5ee0074601b75c3bea9226a18d346752af787f6d2d3adcdd98493d71")


def run_tool(command: Sequence[str], purpose: str, remedy: str) -> None:
    """Runs a program. Raises InputError, with the remedy, if it is not installed, fails or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except FileNotFoundError:
        raise InputError(f"{command[0]}: not found, {purpose} needs it; install Node.js, which contains it") from None
    except subprocess.TimeoutExpired:
        raise InputError(f"{command[0]}: {purpose} took longer than {TIMEOUT} s; {remedy}") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        said = lines[0] if lines else f"exit status {done.returncode}"
        raise InputError(f"{command[0]}: {purpose} failed ({said}); {remedy}")


def fetch(package: Package, folder: Path) -> Path:
    """Downloads the tarball of a package into the empty folder `folder`.

    Raises InputError if npm is absent, cannot download the package, or returns a file with another sha256.
    """
    folder.mkdir(parents=True)
    command = ["npm", "pack", "--silent", str(package), "--pack-destination", str(folder)]
    run_tool(command, f"the download of {package}", "check the network and npm's registry (npm ping)")
    tarballs = sorted(folder.glob("*.tgz"))
    if len(tarballs) != 1:
        raise InputError(f"npm: the download of {package} wrote {len(tarballs)} tarballs, expected 1; update npm")
    check_hash(
        tarballs[0], package.sha256, f"npm returned a file that is not the published {package}; check npm's registry"
    )
    return tarballs[0]


def read_members(tarball: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Yields the wanted files of a package, by path in the package.

    Raises InputError for a damaged tarball, a path that leads outside of the package, a link or special file under a
    wanted path, or a file larger than `MOST_BYTES`.
    """
    try:
        with tarfile.open(tarball, "r:gz") as tar:
            for member in tar:
                name = _inside(member.name, tarball)
                if not wanted(name) or member.isdir():
                    continue
                stream = tar.extractfile(member) if member.isreg() and member.size <= MOST_BYTES else None
                if stream is None:
                    raise InputError(
                        f"{tarball}: '{name}' is a link, a special file or larger than {MOST_BYTES:,} bytes; "
                        "the package is not read"
                    )
                yield name, stream.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InputError(f"{tarball}: is not a complete gzipped tar ({error}); download it again") from None


def _inside(name: str, tarball: Path) -> str:
    """Returns a member's path in the package."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise InputError(f"{tarball}: member '{name}' leads outside of the package; the package is not read")
    return name.removeprefix(ROOT)
