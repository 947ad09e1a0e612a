"""Outputs whole or not at all, hashes, and work in progress by its key."""

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from spn4cir.errors import InputError
from spn4cir.files import (
    atomic_file,
    atomic_folder,
    check_hash,
    copy_file,
    disk_errors,
    file_hash,
    named_in,
    replace_folder,
    require_space,
    tree_hash,
    value_hash,
    walk_once,
)
from spn4cir.images.decoding import open_image
from spn4cir.images.reading import read_bytes
from spn4cir.json_files import read_json, write_json
from stages.work import clear_work, listing_hash, work_folder


class Killed(Exception):
    """Anything that ends a block."""


def half_write(path: Path, error: Exception | None = None) -> None:
    path.write_text("half")
    raise error or Killed


def test_a_file_appears_at_the_end_alone(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    with atomic_file(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert [p.name for p in path.parent.iterdir()] == ["b.txt"]


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    """File and folder alike; no temporary stays."""
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x").write_text("old")
    with pytest.raises(Killed), atomic_file(tmp_path / "file") as temporary:
        half_write(temporary)
    with pytest.raises(Killed), atomic_folder(tmp_path / "folder") as temporary:
        half_write(temporary / "x")
    assert (tmp_path / "file").read_text() == (tmp_path / "folder" / "x").read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_a_private_file_gets_the_mode_of_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    """As safetensors writes it; a mode that is wider already is kept."""
    before = os.umask(umask)
    try:
        with atomic_file(tmp_path / "file") as temporary:
            temporary.touch(0o600)
        with atomic_folder(tmp_path / "folder") as temporary:
            (temporary / "in").mkdir()
            (temporary / "in" / "private").touch(0o600)
            (temporary / "program").touch()
            (temporary / "program").chmod(0o755)
    finally:
        os.umask(before)
    places = ("file", "folder/in/private", "folder/program")
    assert [stat.S_IMODE((tmp_path / place).stat().st_mode) for place in places] == [mode, mode, 0o755 | mode]


def test_the_mode_of_a_linked_file_is_kept(tmp_path: Path) -> None:
    """A cache makes its files read-only, and shares them by hard and symbolic links."""
    cached = tmp_path / "cached"
    cached.touch(0o444)
    with atomic_folder(tmp_path / "folder") as temporary:
        os.link(cached, temporary / "hard")
        (temporary / "symbolic").symlink_to(cached)
    assert stat.S_IMODE(cached.stat().st_mode) == 0o444


@pytest.mark.parametrize("before", ["nothing", "folder", "file", "link"])
def test_a_folder_replaces_whatever_stood_there(tmp_path: Path, before: str) -> None:
    """A link is removed, not what it points to."""
    path, elsewhere = tmp_path / "deep" / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("x")
    path.parent.mkdir()
    if before == "folder":
        path.mkdir()
        (path / "stale").write_text("x")
    elif before == "file":
        path.write_text("x")
    elif before == "link":
        path.symlink_to(elsewhere)
    with atomic_folder(path) as temporary:
        (temporary / "new").write_text("y")
    assert [p.name for p in path.iterdir()] == ["new"]
    assert (elsewhere / "kept").exists()
    assert [p.name for p in path.parent.iterdir()] == ["out"]


def test_a_finished_folder_is_moved(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "a").write_text("x")
    replace_folder(tmp_path / "work", tmp_path / "deep" / "out")
    assert (tmp_path / "deep" / "out" / "a").read_text() == "x"
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_reported_with_its_free_space(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 3_000_000))
    path = tmp_path / "not" / "yet" / "out.txt"
    with pytest.raises(InputError, match=r"out\.txt: the disk is full \(3 MB free\)"), atomic_file(path) as temporary:
        half_write(temporary, OSError(number, "full"))
    assert not list((tmp_path / "not" / "yet").iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
def test_an_array_that_numpy_could_not_write_whole(tmp_path: Path) -> None:
    """NumPy's error has no number."""
    with (
        pytest.raises(InputError, match="the disk is full"),
        disk_errors(tmp_path),
        Path("/dev/full").open("wb") as out,
    ):
        np.zeros(100_000).tofile(out)


def test_an_error_of_the_system_that_a_library_reports_as_text(tmp_path: Path) -> None:
    text = "Error while serializing: I/O error: No space left on device (os error 28)"
    assert named_in(RuntimeError(text), tmp_path).errno == errno.ENOSPC
    assert named_in(RuntimeError("odd"), tmp_path).errno == errno.EIO


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_place_that_cannot_be_written(tmp_path: Path, number: int) -> None:
    with pytest.raises(InputError, match="cannot be written"), disk_errors(tmp_path):
        raise OSError(number, os.strerror(number))


def test_a_file_where_a_folder_is_needed(tmp_path: Path) -> None:
    """A folder where a file is needed is refused too."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be written"):
        write_json(tmp_path / "file" / "a.json", 1)
    with pytest.raises(InputError, match="cannot be written"):
        write_json(tmp_path, 1)
    with pytest.raises(InputError, match="cannot be written"), atomic_folder(tmp_path / "file" / "a"):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_device_or_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    """As root, output to /dev/null would turn it into a file for the whole machine."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is a device or a pipe"):
        write_json(tmp_path / "pipe", 1)
    assert (tmp_path / "pipe").is_fifo()


@pytest.fixture
def ended() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_a_killed_run_left_is_removed(tmp_path: Path, ended: int) -> None:
    """Of the same target and of a process that is gone; the rest may be a run that is under way."""
    stale = [f".best.pt.{ended}.tmp", f"..best.pt.{ended}.tmp.{ended}.tmp"]
    kept = [f".best.pt.{os.getppid()}.tmp", f".last.pt.{ended}.tmp", f".best.pt.{ended}.txt", ".bestXpt.1.tmp"]
    for name in stale + kept:
        (tmp_path / name).touch()
    (tmp_path / f".out.{ended}.tmp" / "inner").mkdir(parents=True)
    write_json(tmp_path / "best.pt", 1)
    assert {path.name for path in tmp_path.iterdir()} == {"best.pt", f".out.{ended}.tmp", *kept}
    with atomic_folder(tmp_path / "out"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"best.pt", "out", *kept}


def test_the_folder_of_a_file_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can contain a hundred thousand files."""
    listed = []
    for name in ("listdir", "scandir"):
        read = getattr(os, name)
        monkeypatch.setattr(os, name, lambda place, read=read: (listed.append(place), read(place))[1])
    for _ in range(2):
        write_json(tmp_path / "file", 1)
    assert [Path(place) for place in listed] == [tmp_path] * 2


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="odd"), disk_errors(tmp_path):
        raise OSError(errno.EIO, "odd")


def test_a_copy_makes_its_folder_and_replaces_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"new")
    (tmp_path / "old").write_bytes(b"old")
    for name in ("folder/file", "old"):
        copy_file(tmp_path / "source", tmp_path / name)
        assert (tmp_path / name).read_bytes() == b"new"


def test_room_for_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 5_000_000))
    require_space(tmp_path / "not" / "yet", 5_000_000)
    with pytest.raises(InputError, match="needs 6 MB but the disk has 5 MB free"):
        require_space(tmp_path / "not" / "yet", 6_000_000)


def test_hashes(tmp_path: Path) -> None:
    """A tree's hash sees names, places and contents, not times; a value's not the order of keys."""
    folder = tmp_path / "a"
    (folder / "b").mkdir(parents=True)
    (folder / "x").write_text("1")
    (folder / "b" / "y").write_text("2")
    assert file_hash(folder / "x") == "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
    assert tree_hash(folder / "x") == file_hash(folder / "x")
    base = tree_hash(folder)
    os.utime(folder / "x", (1, 1))
    assert tree_hash(folder) == base
    (folder / "x").write_text("2")
    changed = tree_hash(folder)
    (folder / "x").rename(folder / "z")
    assert len({base, changed, tree_hash(folder)}) == 3
    assert value_hash({"a": 1, "b": [2]}) == value_hash({"b": [2], "a": 1}) != value_hash({"a": 1, "b": [3]})


def test_a_file_with_another_hash_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("1")
    check_hash(path, file_hash(path), "download it again")
    with pytest.raises(InputError, match=r"x: is damaged \(sha256 6b86b273ff34, expected ffffffffffff\); download it"):
        check_hash(path, "f" * 64, "download it again")
    path.unlink()
    with pytest.raises(InputError, match=r"x: is missing; download it again"):
        check_hash(path, "f" * 64, "download it again")


def test_a_listing_sees_names_sizes_and_times(tmp_path: Path) -> None:
    """Behind a link too; a dangling link is an entry, not an error."""
    real = tmp_path / "real"
    real.mkdir()
    (real / "x").write_text("1")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(real)
    (tmp_path / "root" / "dangling").symlink_to(tmp_path / "nowhere")
    seen = {listing_hash(tmp_path / "root")}
    assert seen == {listing_hash(tmp_path / "root")}
    os.utime(real / "x", (1, 1))
    seen.add(listing_hash(tmp_path / "root"))
    (real / "y").write_text("")
    seen.add(listing_hash(tmp_path / "root"))
    (real / "y").rename(real / "z")
    seen.add(listing_hash(tmp_path / "root"))
    assert len(seen) == 4


def test_a_listing_ends_where_links_go_round(tmp_path: Path) -> None:
    inner = tmp_path / "root" / "inner"
    inner.mkdir(parents=True)
    (inner / "x").write_text("1")
    seen = {listing_hash(tmp_path / "root")}
    (inner / "up").symlink_to(tmp_path / "root")
    seen.add(listing_hash(tmp_path / "root"))
    (inner / "self").symlink_to(inner)
    seen.add(listing_hash(tmp_path / "root"))
    assert len(seen) == 3, "a link is seen, though it is not followed"
    assert [Path(place).name for place, _, _ in walk_once(tmp_path / "root")] == ["root", "inner"]


def test_a_folder_that_may_not_be_read_is_no_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locked").mkdir()
    read = os.scandir

    def refuse(place: str) -> object:
        if str(place).endswith("locked"):
            raise PermissionError(errno.EACCES, "Permission denied", str(place))
        return read(place)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"locked: cannot be read \(Permission denied\); give this user the right to"):
        list(walk_once(tmp_path))
    assert list(walk_once(tmp_path / "absent")) == []


def test_every_determinant_has_work_of_its_own(tmp_path: Path) -> None:
    """Equal values give the same folder; each changed value gives another one."""
    base = {"settings": {"lr": 1e-3, "betas": (0.9, 0.999)}, "seed": 1, "weights": "a", "code": "b"}
    folder = work_folder(tmp_path / "train", base)
    assert folder.is_dir()
    assert work_folder(tmp_path / "train", dict(reversed(base.items()))) == folder
    others = [
        base | {"settings": {"lr": 1e-4, "betas": (0.9, 0.999)}},
        base | {"settings": {"lr": 1e-3, "betas": (0.9, 0.99)}},
        *(base | {key: "other"} for key in base),
        base | {"more": None},
    ]
    assert len({work_folder(tmp_path / "train", other) for other in others} | {folder}) == len(others) + 1
    clear_work(tmp_path / "train")
    assert not (tmp_path / "train").exists()
    clear_work(tmp_path / "train")


@pytest.mark.parametrize("read", [read_json, file_hash, read_bytes, open_image])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, read: Callable[[Path], object]) -> None:
    pipe, link = tmp_path / "pipe.jpg", tmp_path / "link.jpg"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(10)
    try:
        for path in (pipe, link):
            with pytest.raises(
                InputError, match=r"\.jpg: is a pipe, a socket or a device, expected a file; replace it"
            ):
                read(path)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
