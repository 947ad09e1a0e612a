"""The parts of the campaign and their commands: `python -m tests.faults.parts` runs all, as `make faults` does."""

import subprocess
import sys
from pathlib import Path

# The title of each part by its name; `python -m tests.faults.NAME` runs it and stores its counts.
PARTS = {
    "kills": "Runs that are killed",
    "workers": "Workers that are killed, and files that never end",
    "disk": "A full disk",
    "environments": "Places, settings and data that change",
    "cases": "Bad input",
    "fuzz": "Random changes of files and requests",
    "server": "Abuse of the server",
}


def main() -> None:
    """Runs every part; one that finds a fault does not stop the others, but fails the command."""
    failed = []
    for part in PARTS:
        print(f"{part}: {PARTS[part]}", flush=True)
        done = subprocess.run([sys.executable, "-m", f"tests.faults.{part}"], cwd=Path(__file__).parents[2])
        failed += [part] if done.returncode else []
    if failed:
        sys.exit(f"make faults: found faults in {', '.join(failed)}; they are printed above")


if __name__ == "__main__":
    main()
