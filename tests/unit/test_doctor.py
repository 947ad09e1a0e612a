"""`spn4cir doctor`: what killed processes leave in a workspace is found and mended; what is in use is not touched."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from spn4cir.cli import app
from spn4cir.files import atomic_file, atomic_folder
from spn4cir.projects import dvc_lock_files, leftovers
from spn4cir.projects.dvc_lock_files import find_cut_locks
from spn4cir.projects.leftovers import is_gone, running_processes

psutil = pytest.importorskip("psutil")
ROOT = Path(__file__).parents[2]
TMP = Path(".dvc", "tmp")
PROGRAM = """
import os, subprocess, sys, time
if "RUN" in os.environ:
    subprocess.run([sys.executable, "-m", os.environ.pop("RUN")])
print(os.getpid(), flush=True)
sys.stdout.close()
time.sleep(60)
"""
Start = Callable[..., int]
# DVC's own name for a temporary file: a token of 22 characters.
TOKEN = "q3Jb7vXl0sTz_9RkWm-A2c"


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace in which no process runs but those that a test starts."""
    (tmp_path / TMP).mkdir(parents=True)
    (tmp_path / TMP / "rwlock.lock").write_text(" 1\n")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def dead() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.fixture
def start(workspace: Path) -> Iterator[Start]:
    """Starts `dvc repro`, `stages.train` or `demo.draw`: programs that sleep, and are killed after the test."""
    for path in (workspace / "bin" / "dvc", workspace / "stages" / "train.py", workspace / "demo" / "draw.py"):
        path.parent.mkdir()
        path.write_text(PROGRAM)
        (path.parent / "__init__.py").touch()
    started = []

    def start(*words: str, **variables: str) -> int:
        command = [sys.executable, *words]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, **variables}, text=True)
        started.append(process)
        return int(process.stdout.readline())

    yield start
    for process in started:
        process.stdout.close()
        process.kill()
        process.wait()


def doctor(*options: str) -> tuple[int, list[str]]:
    done = CliRunner().invoke(app, ["doctor", *options])
    return done.exit_code, done.output.splitlines()


def write_list(write: dict | None = None, read: dict | None = None, name: str = "rwlock") -> Path:
    path = TMP / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"write": write or {}, "read": read or {}}))
    return path


def info(pid: int) -> dict:
    return {"pid": pid, "cmd": "/bin/dvc repro"}


def test_nothing_is_printed_when_all_is_well(workspace: Path) -> None:
    write_list()
    (workspace / "data" / "work" / "train" / "demo_fiq-clip" / "key").mkdir(parents=True)
    (workspace / "data" / "work" / "usable.txt").write_text("")
    assert doctor() == (0, [])
    assert doctor("--dry-run", "--remove-work") == (0, [])


def test_outside_of_a_workspace_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(".dvc")
    status, (line,) = doctor()
    assert (status, "is in no DVC workspace" in line) == (1, True)


def test_a_folder_below_the_workspace_will_do(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_list()
    path.write_text("")
    (workspace / "docs").mkdir()
    monkeypatch.chdir("docs")
    assert doctor() == (
        0,
        [".dvc/tmp/rwlock: cannot be read by DVC: a process was killed while it wrote it; removed"],
    )


def test_dvc_runs_again_after_a_kill_while_it_wrote_the_list(workspace: Path) -> None:
    """DVC's own code is killed at that moment."""
    rwlock = pytest.importorskip("dvc.rwlock")
    code = """
import json, os, signal
from dvc import rwlock
from dvc.fs import localfs
json.dump = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with rwlock.rwlock(".dvc/tmp", localfs, "dvc repro", ["a"], ["b"], False): pass
"""
    killed = subprocess.run([sys.executable, "-c", code])
    assert killed.returncode == -signal.SIGKILL
    assert (TMP / "rwlock").read_bytes() == b""

    def lock() -> None:
        with rwlock.rwlock(str(TMP), rwlock.localfs, "dvc repro", ["a"], ["b"], False):
            pass

    with pytest.raises(rwlock.RWLockFileCorruptedError):
        lock()
    assert doctor()[0] == 0
    lock()
    assert doctor() == (0, [])


@pytest.mark.parametrize("content", ["", '{"write": {"a"', "[]", '{"write": {"a": {}}}', '{"read": {"a": 3}}', "\0"])
@pytest.mark.parametrize("name", ["rwlock", "exps/rwlock"])
def test_a_broken_list_is_removed(content: str, name: str) -> None:
    path = write_list(name=name)
    path.write_text(content)
    before = path.read_bytes()
    status, (line,) = doctor("--dry-run")
    assert (status, path.read_bytes()) == (1, before)
    assert line.endswith("run without --dry-run (removed)")
    assert doctor()[0] == 0
    assert not path.exists()
    assert doctor() == (0, [])


def test_a_broken_list_is_kept_while_dvc_runs(start: Start) -> None:
    path = write_list()
    path.write_text("")
    pid = start("bin/dvc", "repro")
    status, (line,) = doctor()
    assert status == 1
    assert f"cannot be read by DVC, but process {pid} (dvc repro) runs here; wait for its end" in line
    assert path.exists()


def test_a_list_that_dvc_is_writing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC holds the lock of the system on `rwlock.lock`; its file is empty for a moment."""
    monkeypatch.setattr("spn4cir.projects.dvc_locks._PAUSE", 0)
    path = write_list()
    path.write_text("")
    with (TMP / "rwlock.lock").open("r+") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert doctor() == (0, [])
        assert path.exists()
    assert doctor()[0] == 0
    assert not path.exists()


def test_entries_of_ended_processes_are_removed_and_others_kept(dead: int) -> None:
    mine = info(os.getpid())
    path = write_list({"a": info(dead), "b": mine}, {"c": [info(dead), mine], "d": [info(dead)]})
    line = f".dvc/tmp/rwlock: names process {dead} (dvc repro), which has ended; entries removed"
    assert doctor() == (0, [line])
    assert json.loads(path.read_text()) == {"write": {"b": mine}, "read": {"c": [mine]}}
    assert doctor() == (0, [])


def test_an_id_that_another_program_got_later_is_of_an_ended_process(workspace: Path) -> None:
    here, before = os.getpid(), psutil.Process().create_time() - 60
    assert is_gone(here, before, "no such word")
    assert not is_gone(here, before, "python"), "the clock was set"
    assert not is_gone(here, time.time(), "no such word")


@pytest.mark.parametrize("pid", [-1, 2**31, 10**20])
def test_an_id_that_no_process_can_have_is_of_an_ended_process(pid: int) -> None:
    assert is_gone(pid, 0.0, "dvc")


def test_a_process_that_cannot_be_examined_counts_as_running(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int) -> None:
        raise psutil.AccessDenied(pid)

    monkeypatch.setattr(psutil, "Process", refuse)
    assert not is_gone(1, 0.0, "dvc")


def test_a_hard_link_lock_is_reported_and_kept() -> None:
    """`core.hardlink_lock`: the lock contains the path of another name of the file, and no process."""
    claim = TMP.absolute() / f"{'0' * 32}.lock"
    claim.write_text(str(claim))
    (TMP / "lock").hardlink_to(claim)
    status, (line,) = doctor()
    assert (status, (TMP / "lock").exists()) == (1, True)
    assert line.startswith(".dvc/tmp/lock: is a lock of core.hardlink_lock")


def test_unfinished_files_of_ended_processes_are_removed(dead: int) -> None:
    """The names are those that `spn4cir.files` chooses."""
    with atomic_file(Path("data/bank/best.pt")) as file, atomic_folder(Path("data/caption/fiq")) as folder:
        names = {path: path.with_name(path.name.replace(str(os.getpid()), str(dead))) for path in (file, folder)}
        file.write_text("")
        assert doctor() == (0, []), "they are being written"
        names[file].write_text("")
        names[folder].mkdir()
        (names[folder] / "inside").write_text("")
        status, lines = doctor()
        assert (status, sorted(lines)) == (
            0,
            sorted(f"{path}: was not finished by process {dead}, which has ended; removed" for path in names.values()),
        )
        assert not any(os.path.lexists(path) for path in names.values())
        assert file.exists()
        assert folder.exists()


def test_links_and_copies_that_dvc_did_not_finish_are_removed(start: Start, workspace: Path) -> None:
    place = Path("data", "train")
    place.mkdir(parents=True)
    half, copy = place / f".{TOKEN}.tmp", place / f"best.pt.{TOKEN}.tmp"
    half.symlink_to("/no/such/file")
    copy.write_text("")
    other = place / "notes.tmp"
    other.write_text("the user's")
    pid = start("bin/dvc", "repro")
    assert doctor() == (0, []), "DVC may be writing them"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    status, lines = doctor()
    assert (status, len(lines)) == (0, 2)
    assert [path.name for path in place.iterdir()] == ["notes.tmp"]


def test_a_copy_in_the_cache_may_be_of_another_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(".dvc", "cache", "files", "md5", "00", f".{TOKEN}.tmp")
    path.parent.mkdir(parents=True)
    path.write_text("")
    assert doctor() == (0, [])
    monkeypatch.setattr("spn4cir.projects.unfinished.age_of", lambda path: 25 * 3600.0)
    assert doctor()[0] == 0
    assert not path.exists()


def test_work_that_nothing_claims_is_removed_only_on_request() -> None:
    kept = Path("data/work/train/demo_fiq-clip/key")
    unknown = [
        Path("data/work/train/gone-clip"),
        Path("data/work/train/demo_fiq-gone"),
        Path("data/work/gone/demo_fiq"),
    ]
    for folder in (kept, *unknown):
        folder.mkdir(parents=True)
        (folder / "state.pt").write_bytes(b"0" * 100_000)
    status, lines = doctor()
    assert (status, len(lines)) == (1, 3)
    assert lines[0].startswith("data/work/gone/demo_fiq: (0.1 MB, 0 days old) belongs to no stage and data set")
    assert all(line.endswith("--remove-work removes it") for line in lines)
    assert doctor("--remove-work", "--dry-run")[0] == 1
    assert all(folder.is_dir() for folder in unknown)
    assert doctor("--remove-work")[0] == 0
    assert not any(folder.exists() for folder in unknown)
    assert kept.is_dir()


def test_work_is_not_removed_while_a_stage_runs(start: Start) -> None:
    folder = Path("data/work/train/gone-clip")
    folder.mkdir(parents=True)
    pid = start("-m", "stages.train", "gone", "clip")
    status, (line,) = doctor("--remove-work")
    assert (status, folder.is_dir()) == (1, True)
    assert line.endswith(f"process {pid} (stages.train gone clip) runs here: wait for its end")


@pytest.mark.parametrize("name", ["params.yaml", "dvc.yaml"])
def test_work_is_kept_when_the_settings_cannot_be_read(name: str) -> None:
    folder = Path("data/work/train/gone-clip")
    folder.mkdir(parents=True)
    Path(name).write_text("a: [")
    status, (line,) = doctor("--remove-work")
    assert (status, folder.is_dir()) == (1, True)
    assert line.startswith("data/work: was not checked; the settings cannot be read")
    assert name in line


def test_a_stage_whose_dvc_has_ended_is_reported(start: Start) -> None:
    pid = start("-m", "stages.train", "fiq", "clip", DVC_STAGE="train@fiq-clip")
    assert doctor() == (
        1,
        [f"process {pid} (stages.train fiq clip): runs without DVC; wait for its end, or end it with kill {pid}"],
    )


def test_a_stage_of_the_demo_is_reported_and_workers_of_a_stage_are_not(start: Start) -> None:
    """What ends the stage ends its workers; a program of the demo that runs DVC itself is no stage."""
    worker = start("-m", "stages.train", "fiq", "clip", RUN="stages.train", DVC_STAGE="train@fiq-clip")
    drawing = start("-m", "demo.draw", DVC_STAGE="demo/dvc.yaml:images")
    start("-m", "demo.draw")
    lines = doctor()[1]
    assert sorted(line.partition(":")[0] for line in lines) == sorted(
        [f"process {psutil.Process(worker).ppid()} (stages.train fiq clip)", f"process {drawing} (demo.draw)"]
    )


def test_a_stage_below_dvc_or_started_by_hand_is_no_fault(start: Start) -> None:
    start("-m", "stages.train", "fiq", "clip")
    start("bin/dvc", "repro", RUN="stages.train", DVC_STAGE="train@fiq-clip")
    assert {(each.command, each.is_orphan) for each in running_processes(Path())} == {
        ("stages.train fiq clip", False),
        ("dvc repro", False),
        ("stages.train", False),
    }
    assert doctor() == (0, [])


@pytest.mark.parametrize(("mode", "in_use"), [(0o755, False), (0o775, True)])
def test_another_users_dvc_counts_where_it_may_write(
    workspace: Path, start: Start, monkeypatch: pytest.MonkeyPatch, mode: int, in_use: bool
) -> None:
    """The folder in which it runs cannot be read."""

    def refuse(process: psutil.Process) -> None:
        raise psutil.AccessDenied(process.pid)

    pid = start("bin/dvc", "repro")
    monkeypatch.setattr(psutil.Process, "cwd", refuse)
    (workspace / ".dvc").chmod(mode)
    assert (pid in [each.pid for each in running_processes(workspace)]) == in_use


def test_what_cannot_be_mended_remains(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    path = write_list()
    path.write_text("")
    status, (line,) = doctor()
    assert (status, path.exists()) == (1, True)
    assert line.endswith("could not be removed (Permission denied)")


def test_without_psutil_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "psutil", None)
    status, (line,) = doctor()
    assert (status, "psutil is not installed; run pip install" in line) == (1, True)


@pytest.mark.parametrize("is_there", [False, True])
def test_what_was_set_aside_is_put_back_or_removed(dead: int, is_there: bool) -> None:
    """A folder was being replaced where two folders cannot be exchanged."""
    aside, place = Path("data", f".fiq.{dead}.old.tmp"), Path("data", "fiq")
    aside.mkdir(parents=True)
    (aside / "old").touch()
    if is_there:
        place.mkdir()
        (place / "new").touch()
    done = "removed" if is_there else "renamed to fiq"
    assert doctor() == (0, [f"{aside}: was set aside by process {dead}, which has ended; {done}"])
    assert [path.name for path in place.iterdir()] == ["new" if is_there else "old"]
    assert not aside.exists()


def test_a_folder_that_was_being_removed_is_replaced_by_its_copy(dead: int) -> None:
    """It could not be renamed; `.removed.tmp` says that files are missing."""
    aside, place = Path("data", f".fiq.{dead}.old.tmp"), Path("data", "fiq")
    for folder in (aside, place):
        folder.mkdir(parents=True)
        (folder / "first").touch()
    (aside / "second").touch()
    (place / ".removed.tmp").touch()
    assert doctor() == (0, [f"{aside}: was set aside by process {dead}, which has ended; renamed to fiq"])
    assert sorted(path.name for path in place.iterdir()) == ["first", "second"]
    assert not aside.exists()


@pytest.mark.parametrize("locale", ["C.UTF-8", "tr_TR.utf8"])
def test_a_name_with_odd_characters_is_printed_in_one_line(dead: int, locale: str) -> None:
    """In a locale other than C, Python refuses to print the bytes of a name that is not UTF-8."""
    Path("data").mkdir()
    for name in (b"a\nb", b"red\x1b[31m", b"not\xff"):
        Path("data", os.fsdecode(b".%s.%d.tmp" % (name, dead))).touch()
    environment = {**os.environ, "LC_ALL": locale, "PYTHONIOENCODING": "utf-8:strict", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", "from spn4cir.cli import main; main()", "doctor"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    names = [line.partition(f".{dead}.tmp: ")[0] for line in done.stdout.splitlines()]
    assert sorted(names) == [r"data/.a\nb", r"data/.not\udcff", r"data/.red\x1b[31m"]
    assert not list(Path("data").iterdir())


@pytest.mark.parametrize("link", ["data", "data/work", "data/work/train"])
def test_work_below_a_link_out_of_the_project_is_never_removed(
    link: str, dead: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Another clone may use it."""
    target, here = tmp_path_factory.mktemp("disk"), Path(link)
    folder = target / Path("data/work/train/gone-clip").relative_to(here)
    folder.mkdir(parents=True)
    here.parent.mkdir(parents=True, exist_ok=True)
    here.symlink_to(target)
    unfinished = target / f".best.pt.{dead}.tmp"
    unfinished.touch()
    status, lines = doctor("--remove-work")
    assert status == 1
    assert all("; a link leads out of the project: remove it" in line for line in lines)
    assert len(lines) == 1 + (link == "data"), "other links are not followed to look for unfinished files"
    assert folder.is_dir()
    assert unfinished.exists()


@pytest.mark.parametrize("is_there", [False, True])
def test_unfinished_files_behind_a_link_out_of_the_project_are_mended_after_a_day(
    dead: int, is_there: bool, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`data` is on another disk. What was set aside is the only copy if nothing is in its place."""
    disk = tmp_path_factory.mktemp("disk")
    Path("data").symlink_to(disk)
    aside, half, place = disk / f".fiq.{dead}.old.tmp", disk / f".best.pt.{dead}.tmp", disk / "fiq"
    for folder, name in ((aside, "old"), (half, "inside"), *([(place, "new")] if is_there else [])):
        folder.mkdir()
        (folder / name).touch()
    advice = "remove it" if is_there else "it is the only copy, rename it to fiq"
    when = "if no other project uses it; doctor does so when it is a day old"
    expected = [
        f"data/{half.name}: was not finished by process {dead}, which has ended; "
        f"a link leads out of the project: remove it {when}",
        f"data/{aside.name}: was set aside by process {dead}, which has ended; "
        f"a link leads out of the project: {advice} {when}",
    ]
    assert doctor() == (1, expected)
    monkeypatch.setattr(
        "spn4cir.projects.unfinished.age_of", lambda path: 0.0 if path.name == "inside" else 25 * 3600.0
    )
    status, lines = doctor()
    assert (status, lines[0]) == (1, expected[0]), "a file in it is recent"
    assert sorted(path.name for path in disk.iterdir()) == [half.name, "fiq"]
    assert [path.name for path in place.iterdir()] == ["new" if is_there else "old"]
    monkeypatch.setattr("spn4cir.projects.unfinished.age_of", lambda path: 25 * 3600.0)
    assert doctor()[0] == 0
    assert [path.name for path in disk.iterdir()] == ["fiq"]
    assert doctor() == (0, [])


def test_a_link_within_the_project_is_cleaned(dead: int) -> None:
    Path("store", "work", "train", "gone-clip").mkdir(parents=True)
    Path("data").symlink_to("store")
    Path("store", f".best.pt.{dead}.tmp").touch()
    assert doctor("--remove-work")[0] == 0
    assert [path.name for path in Path("store", "work", "train").iterdir()] == []
    assert [path.name for path in Path("store").iterdir()] == ["work"]


def entry(name: str) -> str:
    return f"  {name}:\n    cmd: echo {name}\n    outs:\n    - path: {name}\n      hash: md5\n      md5: {name * 8}\n"


LOCK = "schema: '2.0'\nstages:\n" + entry("aaaa") + entry("bbbb") + entry("cccc")


AUTHOR = ("-c", "user.name=test", "-c", "user.email=test@example.org")


@pytest.fixture
def committed(workspace: Path) -> Path:
    """A lock file of which the last commit contains an older state, with the entry `dddd`."""
    path = workspace / "dvc.lock"
    path.write_text(LOCK + entry("dddd"))
    for command in (("init", "-q"), ("add", "dvc.lock"), (*AUTHOR, "commit", "-q", "-m", "lock")):
        subprocess.run(["git", *command], cwd=workspace, check=True)
    return path


@pytest.mark.parametrize(
    ("end", "kept", "taken"),
    [
        (0, "", "aaaa bbbb cccc dddd"),
        (9, "", "aaaa bbbb cccc dddd"),
        (LOCK.index("  aaaa"), "", "aaaa bbbb cccc dddd"),
        (LOCK.index("    cmd: echo cccc"), "aaaa bbbb", "cccc dddd"),
        (LOCK.rindex("    - path"), "aaaa bbbb", "cccc dddd"),
        (-20, "aaaa bbbb", "cccc dddd"),
    ],
)
def test_a_cut_lock_file_keeps_its_whole_entries_and_takes_others_from_the_commit(
    committed: Path, end: int, kept: str, taken: str
) -> None:
    committed.write_text(LOCK[:end])
    cure = (
        f"mended ({len(kept.split())} entries kept, {len(taken.split())} taken from the last commit); "
        "DVC runs the other stages again"
    )
    fault = "dvc.lock: was not finished by a DVC that has ended"
    assert doctor("--dry-run") == (1, [f"{fault}; run without --dry-run ({cure})"])
    assert doctor() == (0, [f"{fault}; {cure}"])
    assert committed.read_text() == LOCK + entry("dddd")
    assert doctor() == (0, [])


SIZED = "schema: '2.0'\nstages:\n" + "".join(
    f"{entry(name)}      size: 12345\n    - path: {name}.d\n      md5: {'0123456789abcdef' * 2}.dir\n      nfiles: 34\n"
    for name in ("aaaa", "bbbb", "cccc")
)


def test_a_lock_file_cut_at_any_byte_is_mended_or_contains_only_whole_lines(
    committed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cut value can look whole: `size: 12` of `size: 12345`, or the hash of a folder without `.dir`."""
    committed.write_text(SIZED)
    subprocess.run(["git", *AUTHOR, "commit", "-q", "-a", "-m", "sizes"], cwd=committed.parent, check=True)
    monkeypatch.setattr(dvc_lock_files, "_committed", cache(dvc_lock_files._committed))  # one call of git
    whole, lines = YAML(typ="safe").load(SIZED)["stages"], SIZED.splitlines()
    left = 0
    for end in range(len(SIZED)):
        committed.write_text(SIZED[:end])
        for cut in find_cut_locks(committed.parent, []):
            cut.mend()
            assert committed.read_text() == SIZED, SIZED[:end][-30:]
        if (text := committed.read_text()) != SIZED:
            left += 1
            assert text.splitlines() == lines[: len(text.splitlines())], "all lines are whole"
            if not text.endswith("\n"):
                (*_, name) = found = YAML(typ="safe").load(text)["stages"]
                assert found[name] == whole[name]
    assert left == 27, "24 ends of lines that DVC can read, and the ends of three entries without a line break"


@pytest.mark.parametrize(
    ("end", "is_whole"),
    [("", True), ("\n      size: 96", False), ("\n      isexec: tr", False), ("\n      size:", False)],
)
def test_a_lock_file_that_lacks_only_its_last_line_break_is_whole(committed: Path, end: str, is_whole: bool) -> None:
    """As an editor leaves it; DVC reads it. Its last entry is that of the commit."""
    committed.write_text(LOCK.rstrip("\n") + end)
    before = committed.read_text()
    assert len(doctor("--dry-run")[1]) == (not is_whole)
    assert committed.read_text() == before


def test_a_lock_file_that_is_not_yaml_is_mended_without_its_last_line_break(committed: Path) -> None:
    committed.write_text(LOCK.replace("    cmd: echo aaaa", "<<<<<<< HEAD\n    cmd: 'echo aaaa").rstrip("\n"))
    status, (line,) = doctor("--dry-run")
    assert status == 1
    assert "was not finished" in line


def test_a_lock_file_cut_at_the_end_of_a_line_is_found_if_dvc_cannot_read_it(workspace: Path) -> None:
    """DVC runs the stages again whose entries are missing or incomplete, so that other cuts need no mending."""
    voluptuous = pytest.importorskip("voluptuous")
    schema = pytest.importorskip("dvc.schema").COMPILED_LOCKFILE_SCHEMA
    params = "    params:\n      params.yaml:\n        pool:\n        bank:\n          dtype: float32\n"
    lines = (LOCK + entry("eeee").replace("    outs:\n", f"    deps:\n    - path: x\n{params}    outs:\n")).splitlines(
        True
    )
    found = 0
    for end in range(1, len(lines) + 1):
        (workspace / "dvc.lock").write_text("".join(lines[:end]))
        try:
            schema(YAML(typ="safe").load(workspace / "dvc.lock"))
            can_read = True
        except voluptuous.Invalid:
            can_read = False
        assert bool(list(find_cut_locks(workspace, []))) is not can_read, lines[end - 1]
        found += not can_read
    assert found == 12


def test_a_cut_lock_file_without_a_commit_is_removed(workspace: Path) -> None:
    path = workspace / "demo" / "dvc.lock"
    path.parent.mkdir()
    path.write_text("schema: '2.0'\nsta")
    status, (line,) = doctor()
    assert (status, path.exists()) == (0, False)
    assert line.startswith("demo/dvc.lock: was not finished by a DVC that has ended; mended (0 entries kept")


def test_a_cut_lock_file_is_left_while_dvc_runs(workspace: Path, start: Start) -> None:
    (workspace / "dvc.lock").write_text(LOCK[:-20])
    start("bin/dvc", "repro")
    assert doctor() == (0, [])
    assert (workspace / "dvc.lock").read_text() == LOCK[:-20]
