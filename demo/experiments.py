"""DVC experiments that leave the workspace as it is, and their metrics."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

from demo.warm_python import warm_python
from spn4cir.errors import InputError

_REFERENCES = "refs/exps"
# Two fetches at a time would lock the same references.
_fetching = Lock()


def command(
    name: str, settings: Mapping[str, str], targets: Sequence[str] = (), in_workspace: bool = False
) -> list[str]:
    """Returns the command of an experiment.

    Args:
        name: name of the experiment.
        settings: params by the keys that `dvc exp run -S` accepts.
        targets: stages to run; all stages if empty.
        in_workspace: whether the experiment changes the workspace, instead of a temporary copy of it.
    """
    flags = [part for key, value in settings.items() for part in ("-S", f"{key}={value}")]
    return ["dvc", "exp", "run", *([] if in_workspace else ["--temp"]), "-n", name, *flags, *targets]


@contextmanager
def warm_stages() -> Iterator[Mapping[str, str]]:
    """Yields an environment in which stages start from one process that has imported the heavy libraries."""
    with TemporaryDirectory() as folder, warm_python(Path(folder)) as stand_in:
        yield {**os.environ, "PATH": f"{stand_in}{os.pathsep}{os.environ['PATH']}"}


def run(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    follow: Callable[[str], None] | None = None,
    clone: Path | None = None,
) -> str:
    """Runs the command of an experiment and returns its commit. Earlier experiments of the name are removed.

    The command waits while another one holds DVC's lock.

    Args:
        arguments: the command, as `command` returns it.
        environment: environment of the command.
        follow: function that receives every line of the output.
        clone: clone of this repository in which the command runs; its experiments are fetched from there. None: the
            command runs here.

    Raises:
        InputError: the command fails, or DVC keeps no such experiment.
    """
    name = arguments[arguments.index("-n") + 1]
    for reference in _commits(name):
        _output(["git", "update-ref", "-d", reference])
    print("$ " + " ".join(arguments), flush=True)
    _output([arguments[0], "--wait-for-lock", *arguments[1:]], follow, environment, clone)
    if clone is not None:
        with _fetching:
            _output(["git", "fetch", "--quiet", str(clone), f"+{_REFERENCES}/*:{_REFERENCES}/*"])
    for commit in _commits(name).values():
        return commit
    raise InputError(f"DVC keeps no experiment {name} after its run; run it again")


def metrics_at(commit: str, dataset: str, family: str) -> dict[str, Any]:
    """Returns the metrics of a data set and family in an experiment."""
    metrics: dict[str, Any] = json.loads(_output(["git", "show", f"{commit}:./metrics/{dataset}/{family}.json"]))
    return metrics


def _commits(name: str) -> dict[str, str]:
    """Returns the commits of the experiments of a name, by their references."""
    lines = _output(["git", "for-each-ref", "--format=%(refname) %(objectname)", _REFERENCES]).splitlines()
    found = (line.split() for line in lines)
    return {reference: commit for reference, commit in found if reference.endswith(f"/{name}")}


def _output(
    arguments: Sequence[str],
    follow: Callable[[str], None] | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> str:
    lines = []
    with subprocess.Popen(arguments, text=True, stdout=subprocess.PIPE, env=environment, cwd=folder) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if follow:
                follow(line.rstrip("\n"))
    if process.returncode:
        raise InputError(f"{' '.join(arguments)} ended with status {process.returncode}; see its message above")
    return "".join(lines)
