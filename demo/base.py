"""The base model that a family begins with: `python -m demo.base blip --pictures F --clip F --out F1 --out F2`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from demo.pretrain import copy_folder
from demo.reader import READERS, make_reader
from demo.settings import read_settings
from spn4cir.errors import InputError

OVER_CLIP = ("clip", "tgcir", "zs", "zs_cc")


def main() -> None:
    """Copies the small CLIP, or makes a small model of the family's own with the settings of `demo/params.yaml`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("family", choices=(*OVER_CLIP, *READERS))
    parser.add_argument("--pictures", type=Path, required=True, help="folder written by demo.pictures")
    parser.add_argument("--clip", type=Path, required=True, help="folder written by demo.clip")
    parser.add_argument("--out", type=Path, action="append", required=True, help="folder of the model")
    arguments = parser.parse_args()
    first, *others = arguments.out
    try:
        if arguments.family in OVER_CLIP:
            copy_folder(arguments.clip, first)
        else:
            make_reader(arguments.family, read_settings(), arguments.pictures, first)
        for out in others:
            copy_folder(first, out)
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
