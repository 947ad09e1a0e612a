"""Schemathesis over the description of the endpoint: `make check-api`.

Requests that fit the description must be accepted, others refused, and every answer must be one that it names.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.faults.server import prepare
from tests.helpers.server import ROOT, serve


def main() -> None:
    """Runs the tool against a server of its own; fails with what it finds."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.schema.run", description=__doc__)
    parser.add_argument("program", type=Path, help="the program schemathesis")
    parser.add_argument("--examples", type=int, default=200, help="requests that are drawn for each endpoint")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        gallery = prepare(Path(folder))
        with (Path(folder) / "server.err").open("wb") as errors, serve(Path(folder), stderr=errors) as server:
            command = [arguments.program.absolute(), "run", f"{server.address}/openapi.json", "--checks", "all"]
            options = [
                "--max-examples",
                str(arguments.examples),
                "--seed",
                str(arguments.seed),
                "--request-timeout",
                "60",
                "--suppress-health-check=too_slow",  # a busy machine is no finding
            ]
            hooks = {"SCHEMATHESIS_HOOKS": "tests.faults.schema.hooks", "SPN4CIR_FAULTS_GALLERY": str(gallery)}
            environment = {**os.environ, **hooks, "PYTHONPATH": str(ROOT)}
            done = subprocess.run([*command, *options], cwd=folder, env=environment)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
