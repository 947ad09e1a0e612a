"""DVC experiments that leave the workspace as it is, and what they measured."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from demo.warm_python import warm_python
from spn4cir.errors import InputError


def command(name: str, settings: Mapping[str, str], targets: Sequence[str] = ()) -> list[str]:
    """The command of an experiment.

    Args:
        name: the experiment's.
        settings: params as `dvc exp run -S` takes them.
        targets: stages; none: all.
    """
    flags = [part for key, value in settings.items() for part in ("-S", f"{key}={value}")]
    return ["dvc", "exp", "run", "--temp", "-n", name, *flags, *targets]


def run(arguments: Sequence[str], follow: Callable[[str], None] | None = None) -> str:
    """Runs an experiment's command anew and returns its commit; `follow` gets every line of its output.

    Its stages start from one process that has the heavy libraries imported. Raises InputError when it fails.
    """
    name = arguments[arguments.index("-n") + 1]
    subprocess.run(["dvc", "exp", "remove", name], capture_output=True, check=False)  # one of an earlier run
    print("$ " + " ".join(arguments), flush=True)
    with TemporaryDirectory() as folder, warm_python(Path(folder)) as stand_in:
        _output(arguments, follow, {**os.environ, "PATH": f"{stand_in}{os.pathsep}{os.environ['PATH']}"})
    for line in _output(["git", "for-each-ref", "--format=%(objectname) %(refname)", "refs/exps"]).splitlines():
        commit, reference = line.split()
        if reference.endswith(f"/{name}"):
            return commit
    raise InputError(f"experiment {name} is not among those that DVC keeps; run it again")


def metrics_at(commit: str, dataset: str, family: str) -> dict[str, Any]:
    """The metrics file of a pair in an experiment."""
    metrics: dict[str, Any] = json.loads(_output(["git", "show", f"{commit}:./metrics/{dataset}/{family}.json"]))
    return metrics


def _output(
    arguments: Sequence[str],
    follow: Callable[[str], None] | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    lines = []
    with subprocess.Popen(arguments, text=True, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if follow:
                follow(line.rstrip("\n"))
    if process.returncode:
        raise InputError(f"{' '.join(arguments)} ended with status {process.returncode}; its message stands above")
    return "".join(lines)
