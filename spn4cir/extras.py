"""The extras of the package: groups of optional dependencies, such as `serve` and `dvc`."""

import json
import shlex
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname


def install_command(extra: str) -> str:
    """Returns the command that installs an extra.

    Installers record the clone, the folder or the wheel that the package was installed from; the command names it.
    Without a record, or if that path no longer exists, the command is for a clone of the repository.
    Source: https://packaging.python.org/en/latest/specifications/direct-url/.

    Args:
        extra: name of the extra in `pyproject.toml`.
    """
    origin = _origin()
    url = urlsplit(origin.get("url", ""))
    path = Path(url2pathname(url.path))
    if url.scheme != "file" or not path.exists():
        return f"pip install -e '.[{extra}]' in a clone of the repository"
    editable = "-e " if origin.get("dir_info", {}).get("editable") else ""
    return f"pip install {editable}{shlex.quote(f'{path}[{extra}]')}"


def _origin() -> dict[str, Any]:
    """Returns the record of where the package was installed from; empty if there is none."""
    try:
        record = distribution("spn4cir").read_text("direct_url.json")
    except PackageNotFoundError:
        return {}
    return dict(json.loads(record)) if record else {}
