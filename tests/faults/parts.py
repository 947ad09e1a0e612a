"""The parts of the campaign and their commands: `python -m tests.faults.parts` runs all, as `make faults` does."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from spn4cir.files import file_hash, value_hash
from spn4cir.json_files import read_json, write_json

ROOT = Path(__file__).parents[2]
STATES = ROOT / ".cache" / "faults"  # what has ended, for after an interruption
_CODE = ("spn4cir", "stages", "tests/faults")

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
    failed = run_missing(STATES / "parts.json", _run)
    if failed:
        sys.exit(f"make faults: found faults in {', '.join(failed)}; they are printed above")


def run_missing(state: Path, run: Callable[[str], int]) -> list[str]:
    """Runs the parts that have not ended since the code changed, or since all had ended. Returns those that failed.

    Args:
        state: the file of the parts that have ended.
        run: runs a part and returns its exit status.
    """
    code = code_version()
    stored = read_json(state) if state.is_file() else {}
    ended: dict[str, int] = stored["ended"] if stored.get("code") == code else {}
    for part in PARTS:
        if part not in ended:
            print(f"{part}: {PARTS[part]}", flush=True)
            ended[part] = run(part)
            write_json(state, {"code": code, "ended": ended})
    state.unlink()
    return [part for part, status in ended.items() if status]


def code_version() -> str:
    """A hash of the code that the campaign runs."""
    return value_hash([[str(path), file_hash(path)] for name in _CODE for path in sorted((ROOT / name).rglob("*.py"))])


def _run(part: str) -> int:
    return subprocess.run([sys.executable, "-m", f"tests.faults.{part}"], cwd=ROOT).returncode


if __name__ == "__main__":
    main()
