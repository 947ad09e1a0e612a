"""The code of the demo's stages, as hashes: `python -m demo.code --out data/code_demo draw.pool models.clip`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from spn4cir.errors import InputError
from spn4cir.files import atomic_folder
from stages.fingerprint import Sources


def main() -> None:
    """Writes a file for each named module, with a line `<hash> <path>` for each file that the module can run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="+", metavar="MODULE", help="a module of this package that a stage runs")
    parser.add_argument("--out", type=Path, required=True, help="folder of the files; replaced if it exists")
    arguments = parser.parse_args()
    sources = Sources(Path(__file__).parents[1])
    try:
        with atomic_folder(arguments.out) as folder:
            for module in arguments.modules:
                (folder / f"{module}.txt").write_text(sources.fingerprint(f"demo.{module}"), encoding="utf-8")
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
