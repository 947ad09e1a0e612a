"""A user id without a name or a home, as in a container: what the package starts works all the same."""

import getpass
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from spn4cir.errors import InputError
from spn4cir.user import name_user

ROOT = Path(__file__).parents[2]
USER = 54321
NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME")
# Another user id that may read the interpreter, which is often in root's home.
AS_USER = (
    *("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
)


@pytest.fixture
def nameless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process as one of a user id without a name; what `name_user` sets is undone."""

    def unknown(user: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {user}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    for name in NAMES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_a_name_and_a_home_are_given(nameless: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name_user()
    assert getpass.getuser() == str(os.getuid())
    home = Path.home()
    assert home.parent == tmp_path
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert f"caches go to {home}; set HOME to another folder" in capsys.readouterr().err
    name_user()
    assert Path.home() == home
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("home", ["nowhere", "", "."])
def test_a_home_that_cannot_be_used_is_replaced(
    nameless: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / home) if home == "nowhere" else home)
    name_user()
    assert Path.home().parent == tmp_path
    assert Path.home().is_dir()


def test_what_the_environment_names_is_kept(
    nameless: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "mine"))
    monkeypatch.setenv("USER", "someone")
    name_user()
    assert (getpass.getuser(), Path.home(), "LOGNAME" in os.environ) == ("someone", tmp_path / "mine", False)
    assert capsys.readouterr().err == ""


def test_a_user_with_a_name_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pwd, "getpwuid", lambda user: pwd.struct_passwd(("me", "x", user, user, "", "/home/me", "")))
    monkeypatch.setenv("HOME", "/nowhere")
    before = dict(os.environ)
    name_user()
    assert dict(os.environ) == before


def test_a_folder_of_another_user_is_refused(nameless: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spn4cir-777").mkdir()
    monkeypatch.setattr("os.getuid", lambda: 777)
    with pytest.raises(InputError, match=r"spn4cir-777: belongs to another user; set HOME to a folder"):
        name_user()


@pytest.fixture(params=[None, "/"], ids=["no home", "a home that cannot be written to"])
def project(request: pytest.FixtureRequest) -> Iterator[tuple[Path, dict[str, str]]]:
    """A DVC project of a user id without a name, and its environment; not below pytest's folder, which is root's."""
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("another user id needs root and setpriv")
    if subprocess.run((*AS_USER, sys.executable, "-c", ""), capture_output=True).returncode:
        pytest.skip("this container lets no other user id read the interpreter")
    place = Path(tempfile.mkdtemp())
    (place / "metrics" / "d").mkdir(parents=True)
    (place / "metrics" / "d" / "clip.json").write_text(
        '{"protocol": {}, "counts": {"queries": {"val": 1}, "gallery": {"val": 2}}, "recall_at1": 5.0}'
    )
    shutil.copy(ROOT / "params.yaml", place)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if name not in NAMES}
    shared = {"PATH": path, "PYTHONPATH": str(ROOT), "TMPDIR": str(place), "DVC_NO_ANALYTICS": "1"}
    git = ("git", "-c", "user.name=n", "-c", "user.email=n@example.org")
    for command in ((*git, "init", "-q"), ("dvc", "init", "-q"), (*git, "add", "-A"), (*git, "commit", "-qm", "x")):
        subprocess.run(command, cwd=place, env={**os.environ, **shared}, check=True, capture_output=True)
    for each in (place, *place.rglob("*")):
        os.chown(each, USER, USER)
    yield place, {**kept, **shared, **({} if request.param is None else {"HOME": request.param})}
    shutil.rmtree(place)


def test_stages_and_compare_run_as_a_user_id_without_a_name(project: tuple[Path, dict[str, str]]) -> None:
    """A stage that writes figures and draws; a revision that DVC reads, whose metrics file names no table."""
    place, environment = project

    def run(code: str) -> subprocess.CompletedProcess[str]:
        command = (*AS_USER, sys.executable, "-c", code)
        return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)

    stage = run(
        "import sys; sys.argv = ['stage', 'demo_fiq', 'clip']\n"
        "from pathlib import Path\n"
        "from stages.common import run\n"
        "from spn4cir.training.figures import write_figures\n"
        "from spn4cir.training.trainer import History\n"
        "def main(job):\n"
        "    write_figures(History(steps=[{'step': 1, 'epoch': 1, 'loss': 0.5}]), Path('figures'), Path('speed'))\n"
        "    import spn4cir.report.charts\n"
        "run(main)\n"
    )
    said = f"user id {USER} has no home folder that can be written to: caches go to {place}/spn4cir-{USER}"
    assert stage.returncode == 0, stage.stderr
    assert stage.stderr.startswith(said)
    assert stage.stderr.splitlines()[1:] == []
    assert (place / "figures" / "steps" / "loss.tsv").is_file()
    compared = run(
        "import sys; sys.argv = ['spn4cir', 'compare', 'HEAD', 'HEAD']\nfrom spn4cir.cli import main; main()"
    )
    assert compared.stderr.splitlines()[1:] == [
        "error: HEAD:metrics/d/clip.json: names no table of queries; run validate again, which writes one"
    ]


def test_make_names_the_user_for_dvc(project: tuple[Path, dict[str, str]]) -> None:
    """DVC by itself ends with a traceback where the user id has no name."""
    place, environment = project
    home = {"HOME": str(place)}
    makefile = str(ROOT / "Makefile").replace(" ", "\\ ")
    (place / "own.mk").write_text(f"include {makefile}\nsaid:\n\t@echo $$LOGNAME; dvc version\n")

    def make(**more: str) -> list[str]:
        command = (*AS_USER, "make", "-s", "-f", "own.mk", "said")
        done = subprocess.run(
            command, cwd=place, env={**environment, **home, **more}, capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()

    own, *version = make()
    assert own == str(USER)
    assert any(line.startswith("DVC version") for line in version)
    assert make(USER="someone")[0] == "someone"
    assert make(USER="someone", LOGNAME="me")[0] == "me"
