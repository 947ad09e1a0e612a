"""Standard streams that are closed, open only for reading, or strict, in processes of their own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLOSED = [">&-", "2>&-", ">&- 2>&-", "1</dev/null", "2</dev/null"]
PRINTS = """
import sys
from spn4cir.streams import open_streams
open_streams()
for stream in (sys.stdout, sys.stderr):
    print("seen", file=stream, flush=True)
"""
PRINTS_IN_BOTH = f"""{PRINTS}
import subprocess
subprocess.run(["sh", "-c", "echo seen && echo seen >&2"], check=True)
"""


def run(
    code: str, redirection: str, folder: Path, *words: str, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs code by a shell that redirects the streams of Python, with further variables of the environment."""
    line = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-c", code, *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | dict(variables or {})
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("redirection", CLOSED)
def test_what_is_printed_on_a_closed_stream_is_lost(tmp_path: Path, redirection: str) -> None:
    done = run(PRINTS_IN_BOTH, redirection, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_open_streams_stay(tmp_path: Path) -> None:
    done = run(PRINTS_IN_BOTH, "", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "seen\nseen\n", "seen\nseen\n")


def test_a_pipe_that_got_the_number_of_a_file_is_used(tmp_path: Path) -> None:
    """As in a process that is forked from a server, whose streams were files."""
    swap = "import os\nprint('before', flush=True)\nos.dup2(2, 1)\n"
    done = run(f"{swap}{PRINTS}print('\\udcff', flush=True)", "> file", tmp_path, variables={"PYTHONUTF8": "1"})
    assert (done.returncode, done.stderr) == (0, "seen\nseen\n\\udcff\n")
    assert (tmp_path / "file").read_text() == "before\n"


def test_a_file_that_got_the_number_of_a_closed_stream_stays(tmp_path: Path) -> None:
    opens = "file = open('file', 'w')\nassert file.fileno() == 1\n"
    done = run(f"{opens}{PRINTS}print('own', file=file)", ">&-", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "file").read_text().splitlines()[-1] == "own"


@pytest.mark.parametrize("redirection", CLOSED)
def test_a_command_works_without_output(tmp_path: Path, redirection: str) -> None:
    (tmp_path / ".dvc").mkdir()
    done = run("from spn4cir.cli import main; main()", redirection, tmp_path, "doctor")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("redirection", CLOSED)
def test_a_stage_works_without_output(tmp_path: Path, redirection: str) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    code = "from stages.common import run\nrun(lambda job: print('seen', flush=True), ())"
    done = run(code, redirection, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict", "utf-8:surrogateescape"])
def test_what_an_output_cannot_encode_is_written_as_escapes(encoding: str, tmp_path: Path) -> None:
    prints = PRINTS.replace('"seen"', r'"a\udcff.png"')
    done = run(prints, "", tmp_path, variables={"PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stdout, done.stderr) == (0, "a\\udcff.png\n", "a\\udcff.png\n")
