"""The stand-in for `python` that passes stages to a warm process."""

import subprocess
import sys
from pathlib import Path

from demo.warm_python import write_stand_in


def test_other_commands_run_in_a_python_whose_path_has_a_space(tmp_path: Path) -> None:
    folder = tmp_path / "it's a folder"
    folder.mkdir()
    python, stand_in = folder / "python3", folder / "python"
    python.symlink_to(sys.executable)
    write_stand_in(stand_in, str(python), folder / "link")
    code = "import sys; print(sys.argv[1:])"
    done = subprocess.run([stand_in, "-c", code, "a b", "$c"], check=True, capture_output=True, text=True)
    assert done.stdout == "['a b', '$c']\n"
