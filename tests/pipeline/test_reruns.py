"""The stages that a change makes stale: `dvc status` of a finished project after `dvc repro code`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stages.fingerprint import Sources
from tests.pipeline.conftest import Project

CODE = ("code", "demo/dvc.yaml:code")
FIQ = {f"{stage}@demo_fiq" for stage in ("dedup", "caption", "match", "baselines")} | {
    f"{stage}@demo_fiq-clip"
    for stage in ("triplets", "checkpoint", "bank", "gallery", "filter", "train", "validate", "report")
}
BASELINES = {"baselines@demo_fiq", "baselines@demo_cirr"}
# checkpoint and train keep the epoch with the best ranks; filter ranks the targets of generated triplets.
RANKED = BASELINES | {
    f"{stage}@{dataset}-clip"
    for stage in ("checkpoint", "filter", "train", "validate")
    for dataset in ("demo_fiq", "demo_cirr")
}


@pytest.fixture(scope="module")
def copied(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return finished.copy(tmp_path_factory.mktemp("reruns") / "project")


@pytest.fixture
def edited(copied: Project) -> Iterator[Project]:
    """A finished project to edit, in which only the stages `code` may run; git reverts the changes."""
    yield copied
    copied.run("git", "checkout", "-q", ".")
    copied.run("git", "clean", "-qfd", "spn4cir", "stages", "demo")


def status(project: Project) -> dict[str, Any]:
    """Returns the reasons why items are stale, by item."""
    return json.loads(project.run("dvc", "status", "--json").stdout)


def refresh(project: Project) -> dict[str, Any]:
    """Runs the stages `code`. Returns the status after them."""
    project.repro(*CODE)
    return status(project)


def append(project: Project, name: str, text: str) -> None:
    path = project.root / name
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def test_comments_and_docstrings_anywhere_rerun_nothing(edited: Project) -> None:
    """Edits every module. Before `code` has run, `dvc status` names only that stage."""
    for folder in ("spn4cir", "stages", "demo"):
        for path in (edited.root / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace('"""', '"""Changed. ', 1) + "\n\n# a comment\n", encoding="utf-8")
    assert set(status(edited)) == set(CODE)
    assert refresh(edited) == {}
    assert not edited.run("git", "status", "--porcelain", "data").stdout


def test_compiled_files_are_no_code(edited: Project) -> None:
    """Files that Python writes beside the sources make nothing stale, not even the stage `code`."""
    for folder in ("spn4cir", "stages"):
        place = edited.root / folder / "__pycache__"
        place.mkdir(exist_ok=True)
        (place / "errors.cpython-399.pyc").write_bytes(b"compiled")
    assert status(edited) == {}


# The items that an edit of a module makes stale.
STALE = {
    "spn4cir/datasets/genecis.py": set(),
    "spn4cir/datasets/fashioniq.py": FIQ,
    "spn4cir/composers/tgcir.py": set(),
    "spn4cir/evaluation/ranking.py": RANKED | {"submit@demo_cirr-clip"},
    "stages/pretrained.py": BASELINES,
    "spn4cir/images/contact_sheet.py": {"validate@demo_fiq-clip", "validate@demo_cirr-clip"},
    "spn4cir/report/style.css": {"report@demo_fiq-clip", "report@demo_cirr-clip"},
    "spn4cir/cli/scoring.py": set(),
    "demo/models/llava.py": {"demo/dvc.yaml:captioner"},
}


def test_code_reruns_what_runs_it(edited: Project) -> None:
    """`dvc status` names the file of the stage's code, and `git diff` the line of the module in it."""
    for module in STALE:
        append(edited, module, "\nCHANGED = 1\n")
    found = refresh(edited)
    files = {}
    for item, reasons in found.items():
        (entry,) = reasons
        for path in entry["changed deps"]:
            assert path.startswith("data/code")
            files[path] = item
    stale: dict[str, set[str]] = {module: set() for module in STALE}
    for line in edited.run("git", "diff", "--unified=0", "data").stdout.splitlines():
        if line.startswith("+++"):
            item = files[line.removeprefix("+++ b/")]
        elif line.startswith(("+", "-")) and not line.startswith("---"):
            stale[line.split()[1]].add(item)
    assert stale == STALE


def test_a_new_family_and_a_new_layout_rerun_nothing(edited: Project) -> None:
    """Each is a file and an entry of its registry."""
    for registry, name, entry in (
        ("composers", "toy", 'FamilyEntry("spn4cir.composers.toy:ToyComposer", (Container(1, "toy"),))'),
        ("datasets", "toy", '"spn4cir.datasets.toy:Toy"'),
    ):
        path = edited.root / "spn4cir" / registry / "__init__.py"
        text = path.read_text(encoding="utf-8")
        start = "COMPOSERS = {\n" if registry == "composers" else "LAYOUTS = {\n"
        path.write_text(text.replace(start, f'{start}    "{name}": {entry},\n'), encoding="utf-8")
        with (path.parent / f"{name}.py").open("x") as module:  # a name that no module has
            module.write("x = 1\n")
    assert refresh(edited) == {}


def test_a_setting_reruns_what_reads_it(edited: Project) -> None:
    """A setting of one pair reruns the stage that reads it, and the report, which shows it; `machine` reruns nothing.

    `dvc status` names the stages that read a value; those after them follow when they write something else.
    """

    def change(params: dict) -> None:
        params["machine"].update(device="cpu", workers=1)
        params["train"]["demo_cirr"]["clip"]["tau"] = 0.5
        params["filter"]["demo_fiq"]["clip"]["target_within"] = 50
        params["adjust"]["demo_fiq"]["clip"]["hubness"] = {"beta": 20, "queries": None}

    edited.edit("params.yaml", change)
    found = refresh(edited)
    reasons = {item: set(entry["changed deps"]["params.yaml"]) for item, (entry,) in found.items()}
    assert reasons == {
        "filter@demo_fiq-clip": {"filter.demo_fiq.clip"},
        "validate@demo_fiq-clip": {"adjust.demo_fiq.clip"},
        "train@demo_cirr-clip": {"train.demo_cirr.clip"},
        "report@demo_fiq-clip": {"filter.demo_fiq.clip", "adjust.demo_fiq.clip"},
        "report@demo_cirr-clip": {"train.demo_cirr.clip"},
    }


def test_a_comment_keeps_unfinished_work(project: Project) -> None:
    """The key of unfinished work is the code that determines a result; other code starts another folder."""
    work = project.root / "data/work/train/demo_fiq-clip"
    (before,) = work.iterdir()
    append(project, "spn4cir/training/stage2.py", "\n# a comment\n")
    project.repro("code")
    project.run("dvc", "repro", "--force", "--single-item", "--no-run-cache", "train@demo_fiq-clip")
    assert list(work.iterdir()) == [before]
    append(project, "spn4cir/training/stage2.py", "\nCHANGED = 1\n")
    project.repro("train@demo_fiq-clip")
    (after,) = work.iterdir()
    assert after != before


def test_the_files_are_those_of_the_code(finished: Project) -> None:
    """The files of the stage equal fingerprints of the sources."""
    written = (finished.root / "data/code/dedup/demo_fiq.txt").read_text()
    paths = [line.split()[1] for line in written.splitlines()]
    assert {Path(path) for path in paths} <= Sources(finished.root).closure("stages.dedup")
    written = (finished.root / "data/code_demo/draw.dataset.txt").read_text()
    assert written == Sources(finished.root).fingerprint("demo.draw.dataset")
