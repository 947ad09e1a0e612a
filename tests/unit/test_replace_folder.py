"""A folder is replaced as a whole: whatever is killed, the old or the new one is there, and two writers do no harm."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from spn4cir import replace_folder as module
from spn4cir.errors import InputError
from spn4cir.files import atomic_folder, check_replaceable
from spn4cir.removed_folder import REMOVED, is_occupied
from spn4cir.replace_folder import read_unreplaced, replace_folder

FILES = [f"{number}.txt" for number in range(4)]
# Is killed before its call number `at` that changes the names in a folder; `ways` says what the system can do.
WRITER = """
import errno, os, signal, sys
from pathlib import Path
from spn4cir import replace_folder as module
from spn4cir.files import atomic_folder

path, text, ways, at, rounds = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
calls = 0

def count(event, arguments):
    global calls
    creates = event == "open" and arguments[2] & os.O_CREAT
    if creates or event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "exchange"):
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)

def rename(source, target, rename=Path.rename):
    if ways == "copy" and source == path:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(source))
    return rename(source, target)

Path.rename = rename
exchange = module._exchange
module._exchange = lambda *two: (count("exchange", two), ways == "exchange" and exchange(*two))[1]
for round in range(rounds):
    with atomic_folder(path) as temporary:
        for number in range(4):
            (temporary / f"{number}.txt").write_text(f"{text}{round}")
        if at:
            sys.addaudithook(count)
"""
WAYS = pytest.mark.parametrize("ways", ["exchange", "aside", "copy"])


def write(path: Path, text: str, ways: str, at: int = 0, rounds: int = 1) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), text, ways, str(at), str(rounds)])


def content(path: Path) -> str:
    """The text of all files; the folder is not whole if they differ or are not those that are expected."""
    texts = {name.name: name.read_text() for name in path.iterdir()}
    assert sorted(texts) == FILES
    assert len(set(texts.values())) == 1
    return texts[FILES[0]]


@pytest.fixture
def can_exchange(tmp_path: Path) -> bool:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    done = module._exchange(tmp_path / "a", tmp_path / "b")
    shutil.rmtree(tmp_path / "a")
    shutil.rmtree(tmp_path / "b")
    return done


def folder_of(path: Path, text: str = "old") -> Path:
    path.mkdir(parents=True)
    for name in FILES:
        (path / name).write_text(text)
    return path


@WAYS
def test_a_writer_that_is_killed_leaves_the_old_or_the_new_folder(
    tmp_path: Path, ways: str, can_exchange: bool
) -> None:
    """It is killed before each call; without an exchange, the next writer finds the old folder where it was.

    `copy`: the old folder cannot be renamed, as one of a lower layer of overlayfs.
    """
    if ways == "exchange" and not can_exchange:
        pytest.skip("this file system cannot exchange two folders")
    seen, partial = [], 0
    for at in range(1, 100):
        path = folder_of(tmp_path / str(at) / "i")
        status = write(path, "new", ways, at).wait()
        absent = not path.exists()
        assert not (absent and ways == "exchange"), f"call {at}"
        partial += (path / REMOVED).exists()
        check_replaceable(path, FILES, "index")
        seen.append((content(path), absent))
        with atomic_folder(path) as temporary:
            (temporary / "next").touch()
        assert [entry.name for entry in path.parent.iterdir()] == ["i"], f"call {at}: something stays"
        if not status:
            break
        assert status == -signal.SIGKILL
    assert len(seen) > 6, "the removal of the old folder alone is five calls"
    assert {text for text, _ in seen} == {"old", "new0"}
    assert seen == sorted(seen, key=lambda each: each[0] == "new0"), "once the new folder is there, it stays"
    assert sum(absent for _, absent in seen) == (ways == "aside"), "between two renames"
    assert partial == (5 if ways == "copy" else 0), "while the old folder is emptied"


OVERLAY = """
mount -t tmpfs none "$1" && cd "$1" && mkdir -p merged upper work lower/0 && echo old > lower/0/0.txt || exit 77
for number in 1 2 3; do cp lower/0/0.txt lower/0/$number.txt; done
for at in 9 16 22; do cp -r lower/0 lower/$at; done
mount -t overlay none -o lowerdir=lower,upperdir=upper,workdir=work,redirect_dir=off merged || exit 77
for at in 0 9 16 22; do "$2" -c "$3" merged/$at new exchange $at 1; done
ls merged/16/.removed.tmp || exit 1
for at in 0 9 16 22; do
    "$2" -c "import pathlib, spn4cir.temporary_files as files; files.put_back(pathlib.Path('merged/$at'))"
    echo $at $(ls -A merged/$at) $(cat merged/$at/*)
done
"""


def test_a_folder_of_a_lower_layer_of_overlayfs_is_replaced(tmp_path: Path) -> None:
    """As one of a Docker image; a writer that is killed leaves the old folder or a copy."""
    if not shutil.which("unshare"):
        pytest.skip("no mount namespaces")
    command = ["unshare", "-m", "sh", "-c", OVERLAY, "sh", str(tmp_path), sys.executable, WRITER]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("this user cannot mount an overlay")
    names = " ".join(FILES)
    old, new = f"{names} old old old old", f"{names} new0new0new0new0"
    assert done.stdout.splitlines()[1:] == [f"0 {new}", f"9 {old}", f"16 {old}", f"22 {new}"], done.stderr


@WAYS
def test_two_writers_of_a_folder_do_not_stop_each_other(tmp_path: Path, ways: str, can_exchange: bool) -> None:
    """The folder of the last one stays, whole; where two folders can be exchanged, it is never absent."""
    path = folder_of(tmp_path / "i")
    writers = [write(path, text, ways, rounds=30) for text in "ab"]
    absent = 0
    while any(writer.poll() is None for writer in writers):
        absent += not path.exists()
    assert [writer.returncode for writer in writers] == [0, 0]
    assert content(path) in ("a29", "b29")
    assert [entry.name for entry in tmp_path.iterdir()] == ["i"]
    assert not absent or ways != "exchange" or not can_exchange


@pytest.mark.parametrize("follows", [True, False])
def test_a_folder_that_another_process_renames_meanwhile_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, follows: bool
) -> None:
    path = folder_of(tmp_path / "i")
    scandir = os.scandir

    def renamed(place: Path) -> object:
        monkeypatch.setattr(os, "scandir", scandir)
        path.rename(tmp_path / "old")
        if follows:
            folder_of(path)
        raise FileNotFoundError

    monkeypatch.setattr(os, "scandir", renamed)
    assert is_occupied(path) == follows


@pytest.mark.parametrize(("call", "when"), [(1, "before"), (2, "before"), (2, "after"), (3, "before"), (3, "after")])
def test_an_interruption_between_two_renames_keeps_a_whole_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int, when: str
) -> None:
    """Ctrl-C; of the three renames, the first finds the place occupied."""
    path = folder_of(tmp_path / "i")
    rename, calls = Path.rename, []

    def interrupted(source: Path, target: Path) -> Path:
        calls.append(source)
        if len(calls) != call:
            return rename(source, target)
        if when == "after":
            rename(source, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_exchange", lambda *two: False)
    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        replace_folder(folder_of(tmp_path / "new", "new"), path)
    monkeypatch.undo()
    assert content(path) == ("new" if (call, when) == (3, "after") else "old")


def test_the_folder_of_returns_when_the_new_one_cannot_be_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, source = folder_of(tmp_path / "i"), tmp_path / "new"
    source.mkdir()
    rename, calls = Path.rename, []

    def refuse(self: Path, target: Path) -> Path:
        calls.append(self)
        if len(calls) == 3:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(module, "_exchange", lambda *two: False)
    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        replace_folder(source, path)
    assert content(path) == "old"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["i", "new"]


def test_a_missing_folder_is_an_error_and_not_waited_for(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "i")
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "absent", path)
    assert content(path) == "old"


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_a_process_with_the_same_id_left_is_no_obstacle(tmp_path: Path, kind: str) -> None:
    """In a container each run can have the same id."""
    path, left = tmp_path / "i", tmp_path / f".i.{os.getpid()}.tmp"
    folder_of(tmp_path / f".i.{os.getpid()}.old.tmp")
    if kind == "folder":
        (left / "inside").mkdir(parents=True)
    elif kind == "file":
        left.touch()
    else:
        left.symlink_to("nowhere")
    check_replaceable(path, FILES, "index")
    assert content(path) == "old"
    with atomic_folder(path) as temporary:
        (temporary / "new").touch()
    assert [entry.name for entry in tmp_path.iterdir()] == ["i"]


def test_what_a_running_process_set_aside_is_left(tmp_path: Path) -> None:
    aside = folder_of(tmp_path / f".i.{os.getppid()}.old.tmp")
    check_replaceable(tmp_path / "i", FILES, "index")
    assert content(aside) == "old"
    assert not (tmp_path / "i").exists()


def write_version(folder: Path, version: str) -> None:
    with atomic_folder(folder) as new:
        for name in ("first", "second"):
            (new / name).write_text(version)


def reader(folder: Path, between: Sequence[Callable[[], object]]) -> Callable[[], str]:
    """Reads two files; between them, the first reads call one of the functions each."""
    calls = iter(between)

    def read() -> str:
        first = (folder / "first").read_text()
        next(calls, lambda: None)()
        if not folder.is_dir():
            raise InputError("no such folder")
        return first + (folder / "second").read_text()

    return read


def test_a_folder_that_is_replaced_meanwhile_is_read_again(tmp_path: Path) -> None:
    """Also where the parts of two versions raise no error."""
    write_version(tmp_path / "f", "1")
    read = reader(tmp_path / "f", [partial(write_version, tmp_path / "f", version) for version in "234"])
    assert read_unreplaced(tmp_path / "f", read) == "44"


def test_a_folder_that_is_replaced_in_two_steps_is_read_again(tmp_path: Path) -> None:
    """It is away for a moment, which is an error of the read."""
    write_version(tmp_path / "f", "1")

    def read() -> str:
        try:
            return once()
        finally:
            if not (tmp_path / "f").exists():
                write_version(tmp_path / "f", "2")

    once = reader(tmp_path / "f", [lambda: (tmp_path / "f").rename(tmp_path / "aside")])
    assert read_unreplaced(tmp_path / "f", read) == "22"


def test_an_error_of_a_folder_that_stays_is_raised_at_once(tmp_path: Path) -> None:
    tries = []

    def read() -> None:
        tries.append(1)
        raise InputError("damaged")

    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match="damaged"):
            read_unreplaced(folder, read)
    assert len(tries) == 2
