"""Downloads the npm packages that draw formulas and diagrams, so that a reader's browser contacts no other host."""

import base64
import hashlib
import subprocess
import tarfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from spn4cir.errors import InputError
from spn4cir.extras import install_command
from spn4cir.files import atomic_folder

CACHE = Path(".cache") / "npm"
# What of a package's files is kept: neither source maps nor other forms of the same.
_KEPT = (".min.js", ".min.css", ".woff2")


class Bundle(NamedTuple):
    """A version of an npm package, the sha512 of its archive (base64), and the files that the site takes from it."""

    name: str
    version: str
    sha512: str
    files: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """The folder of the package's `dist` in the cache."""
        return CACHE / f"{self.name}-{self.version}"


KATEX = Bundle(
    "katex",
    "0.16.47",
    "Eeo8Ys1doU1z+x8AZsPpQu+p/QcZBI5PeOo7QGQdy2x2m0MU/hYagBbGOmXwr5KVbEfVuWv9LpnQWeehogurjg==",
    ("katex.min.css", "fonts/*.woff2"),
)
MERMAID = Bundle(
    "mermaid",
    "11.17.2",
    "V6K3C8EBdEsPFZXSKMJe6ppQOENxuHARr9GvHX4hh47lAbhMRD9qf4oEK7LoaRQxULMa80/qt5gHO73aCleBBg==",
    ("mermaid.min.js",),
)


def fetch(bundle: Bundle) -> Path:
    """Returns the folder of the package's `dist`; downloads it if it is not in the cache.

    Raises InputError if npm or its registry is not available, or the archive has another hash than the pinned one.
    """
    if not bundle.folder.is_dir():
        with atomic_folder(bundle.folder) as temporary:
            _unpack(_download(bundle, temporary), temporary)
    return bundle.folder


def _download(bundle: Bundle, folder: Path) -> Path:
    wanted = f"{bundle.name}@{bundle.version}"
    command = ["npm", "pack", "--silent", wanted]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise InputError(f"npm is needed to fetch {wanted}; run {install_command('docs')}") from None
    except subprocess.CalledProcessError as error:
        raise InputError(f"{wanted}: npm cannot fetch it ({error.stderr.strip()[-200:]}); check the network") from None
    archive = folder / f"{bundle.name}-{bundle.version}.tgz"
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != bundle.sha512:
        raise InputError(f"{wanted}: the archive's sha512 is {found}, expected {bundle.sha512}; it is not used")
    return archive


def _unpack(archive: Path, folder: Path) -> None:
    """Extracts the needed files of the archive's `dist` into the folder, and removes the archive."""
    with tarfile.open(archive) as stream:
        for member in stream:
            parts = PurePosixPath(member.name).parts
            content = stream.extractfile(member)
            if content is not None and parts[:2] == ("package", "dist") and parts[-1].endswith(_KEPT):
                path = folder.joinpath(*parts[2:])
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.read())
    archive.unlink()
