"""Long stages that are killed at any point and run again."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from ruamel.yaml import YAML

from tests.pipeline.conftest import ENVIRONMENT, Project


def locked_md5(project: Project, stage: str) -> dict[str, str]:
    """Returns the hashes of all outs of a stage; no timing is among them."""
    lock = YAML(typ="safe").load(project.root / "dvc.lock")
    return {out["path"]: out["md5"] for out in lock["stages"][stage]["outs"]}


def kill_when(project: Project, command: list[str], pattern: str) -> None:
    """Starts a stage and kills it, with its children, as soon as a file matches `pattern`."""
    process = subprocess.Popen(command, cwd=project.root, env=ENVIRONMENT, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(project.root.glob(pattern)):
        assert time.monotonic() < deadline, f"{pattern} did not appear"
        assert process.poll() is None, "the stage ended before it could be killed"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize(
    ("stage", "out", "pattern"),
    [
        ("checkpoint", "stage1.pt", "data/work/checkpoint/demo_cirr-clip/*/state.pt"),
        ("train", "best.pt", "data/work/train/demo_cirr-clip/*/state.pt"),
        ("bank", "target.npy", "data/work/bank/demo_cirr-clip/*/done.json"),
    ],
)
def test_a_killed_stage_gives_the_same_result_when_run_again(
    project: Project, stage: str, out: str, pattern: str
) -> None:
    """Killed after its first epoch or batch and run again by DVC, it writes the outs of a complete run."""
    if stage == "bank":

        def smaller_batches(params: dict) -> None:
            params["bank"]["demo_cirr"]["clip"]["batch_size"] = 4

        project.edit("params.yaml", smaller_batches)
    else:

        def more_epochs(params: dict) -> None:
            settings = params[stage]["demo_cirr"]["clip"]
            settings.get("train", settings)["epochs"] = 4

        project.edit("params.yaml", more_epochs)
    target = f"{stage}@demo_cirr-clip"
    project.repro(target)
    whole = locked_md5(project, target)
    (project.root / "dvc.lock").unlink()
    project.run("git", "checkout", "-q", "dvc.lock")
    project.run("dvc", "checkout")
    shutil.rmtree(project.root / "data" / "work")
    kill_when(project, [sys.executable, "-m", f"stages.{stage}", "demo_cirr", "clip"], pattern)
    log = project.run("dvc", "repro", "--no-run-cache", "--force", "--single-item", target)
    assert locked_md5(project, target) == whole
    if stage == "bank":
        resumed = re.search(r"bank: resumed after (\d+) of \d+ images", log.stdout)
        assert resumed
        assert int(resumed[1]) > 0
    else:
        assert "resumed after epoch" in log.stdout


@pytest.mark.parametrize(
    ("stage", "said"),
    [("checkpoint", "resumed after epoch 1/1"), ("train", "resumed after epoch 2/2"), ("bank", "resumed after")],
)
def test_a_stage_killed_before_dvc_stored_its_outs_does_not_start_anew(project: Project, stage: str, said: str) -> None:
    """Its work is kept until it runs with other settings; the next run only writes its outs."""
    target = f"{stage}@demo_cirr-clip"
    whole = locked_md5(project, target)
    project.run("python", "-m", f"stages.{stage}", "demo_cirr", "clip")
    log = project.run("dvc", "repro", "--no-run-cache", "--force", "--single-item", target)
    assert said in log.stdout
    assert locked_md5(project, target) == whole
