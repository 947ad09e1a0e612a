"""Compares new golden files with the committed ones: `python -m tests.lavis.compare FOLDER`."""

import sys
from pathlib import Path

import numpy as np

COMMITTED = Path("tests/golden/lavis")
TOLERANCE = 1e-5


def largest_difference(new: Path, committed: Path) -> float:
    """Returns the largest absolute difference of the values; exits with a message if other than floats differ."""
    with np.load(new) as made, np.load(committed) as kept:
        if sorted(made) != sorted(kept):
            sys.exit(f"{committed}: holds {sorted(kept)}, LAVIS's run gave {sorted(made)}; commit the new file")
        return float(np.max([_difference(made[name], kept[name], f"{committed}: {name}") for name in kept]))


def _difference(made: np.ndarray, kept: np.ndarray, where: str) -> float:
    if made.shape != kept.shape or made.dtype != kept.dtype:
        sys.exit(f"{where} is {kept.dtype}{kept.shape}, LAVIS's run gave {made.dtype}{made.shape}; commit the new file")
    if made.dtype.kind == "f":
        return float(np.abs(made - kept).max())
    if not np.array_equal(made, kept):
        sys.exit(f"{where} differs from LAVIS's run; commit the new file")
    return 0.0


def main(folder: Path) -> None:
    for name in ("blip.npz", "blip2.npz"):
        committed = COMMITTED / name
        difference = largest_difference(folder / name, committed)
        if not difference <= TOLERANCE:
            sys.exit(f"{committed}: differs from LAVIS's run by {difference:.2g}, at most {TOLERANCE:.0e} is allowed")
        print(f"{committed}: equal to LAVIS's run within {difference:.2g}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
