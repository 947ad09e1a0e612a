"""What a change makes stale: `dvc status` of a finished project after `dvc repro code`."""

import json
from pathlib import Path
from typing import Any

import pytest

from stages.fingerprint import Sources
from tests.pipeline.conftest import Project

CODE = ("code", "demo/dvc.yaml:code")
FIQ = {f"{stage}@demo_fiq" for stage in ("dedup", "caption", "match")} | {
    f"{stage}@demo_fiq-clip" for stage in ("triplets", "checkpoint", "bank", "train", "validate", "report")
}
# checkpoint and train keep the epoch that ranks best.
RANKED = {
    f"{stage}@{dataset}-clip" for stage in ("checkpoint", "train", "validate") for dataset in ("demo_fiq", "demo_cirr")
}


def status(project: Project) -> dict[str, Any]:
    """Why each stale item is stale, by its name."""
    return json.loads(project.run("dvc", "status", "--json").stdout)


def refresh(project: Project) -> set[str]:
    """Runs the stages `code`; the items that are stale after them."""
    project.repro(*CODE)
    return set(status(project))


def append(project: Project, name: str, text: str) -> None:
    path = project.root / name
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def test_comments_and_docstrings_anywhere_rerun_nothing(project: Project) -> None:
    """In every module: before `code` has run, `dvc status` names that stage alone."""
    for folder in ("spn4cir", "stages", "demo"):
        for path in (project.root / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace('"""', '"""Changed. ', 1) + "\n\n# a comment\n", encoding="utf-8")
    assert set(status(project)) == set(CODE)
    assert refresh(project) == set()
    assert not project.run("git", "status", "--porcelain", "data").stdout


def test_compiled_files_are_no_code(project: Project) -> None:
    """What Python writes beside the sources makes nothing stale, not even the stage `code`."""
    for folder in ("spn4cir", "stages"):
        place = project.root / folder / "__pycache__"
        place.mkdir(exist_ok=True)
        (place / "errors.cpython-399.pyc").write_bytes(b"compiled")
    assert status(project) == {}


@pytest.mark.parametrize(
    ("module", "stale"),
    [
        ("spn4cir/datasets/genecis.py", set()),
        ("spn4cir/datasets/fashioniq.py", FIQ),
        ("spn4cir/composers/tgcir.py", set()),
        ("spn4cir/ranking.py", RANKED | {"submit@demo_cirr-clip"}),
        ("spn4cir/sheets.py", {"validate@demo_fiq-clip", "validate@demo_cirr-clip"}),
        ("spn4cir/report/style.css", {"report@demo_fiq-clip", "report@demo_cirr-clip"}),
        ("spn4cir/cli/scoring.py", set()),
        ("demo/llava.py", {"demo/dvc.yaml:captioner"}),
    ],
)
def test_code_reruns_what_runs_it(project: Project, module: str, stale: set[str]) -> None:
    """And `dvc status` and `git diff` name it: in the file of the stage's code, the line of the module."""
    append(project, module, "\nCHANGED = 1\n")
    assert refresh(project) == stale
    changed = project.run("git", "diff", "--unified=0", "data").stdout.splitlines()
    lines = {line.split()[1] for line in changed if line.startswith(("+", "-")) and not line.startswith(("+++", "---"))}
    assert lines == ({module} if stale else set())
    for reasons in status(project).values():
        (entry,) = reasons
        assert all(path.startswith("data/code") for path in entry["changed deps"])


def test_a_new_family_and_a_new_layout_rerun_nothing(project: Project) -> None:
    """Each is a file and an entry of its registry."""
    for registry, name, entry in (
        ("composers", "toy", 'Entry("spn4cir.composers.toy:ToyComposer", (Container(1, "toy"),))'),
        ("datasets", "rows", '"spn4cir.datasets.rows:Rows"'),
    ):
        path = project.root / "spn4cir" / registry / "__init__.py"
        text = path.read_text(encoding="utf-8")
        start = "COMPOSERS = {\n" if registry == "composers" else "LAYOUTS = {\n"
        path.write_text(text.replace(start, f'{start}    "{name}": {entry},\n'), encoding="utf-8")
        (path.parent / f"{name}.py").write_text("x = 1\n")
    assert refresh(project) == set()


def test_a_setting_reruns_what_reads_it(project: Project) -> None:
    """`tau` of one pair its training, and `machine` nothing."""

    def tau(params: dict) -> None:
        params["train"]["demo_cirr"]["clip"]["tau"] = 0.5

    def machine(params: dict) -> None:
        params["machine"].update(device="cpu", workers=0)

    project.edit("params.yaml", machine)
    assert refresh(project) == set()
    project.edit("params.yaml", tau)
    assert refresh(project) == {"train@demo_cirr-clip"}


def test_a_comment_keeps_unfinished_work(project: Project) -> None:
    """Its key is the code that decides a result; other code begins another folder."""
    work = project.root / "data/work/train/demo_fiq-clip"
    (before,) = work.iterdir()
    append(project, "spn4cir/losses.py", "\n# a comment\n")
    project.repro("code")
    project.run("dvc", "repro", "--force", "--single-item", "--no-run-cache", "train@demo_fiq-clip")
    assert list(work.iterdir()) == [before]
    append(project, "spn4cir/losses.py", "\nCHANGED = 1\n")
    project.repro("train@demo_fiq-clip")
    (after,) = work.iterdir()
    assert after != before


def test_the_files_are_those_of_the_code(finished: Project) -> None:
    """What the stage wrote is what a look at the sources gives."""
    written = (finished.root / "data/code/dedup/demo_fiq.txt").read_text()
    paths = [line.split()[1] for line in written.splitlines()]
    assert {Path(path) for path in paths} <= Sources(finished.root).closure("stages.dedup")
    assert (finished.root / "data/code_demo/draw.txt").read_text() == Sources(finished.root).fingerprint("demo.draw")
