"""The recipes of docs/experiments.md: the commit, a sweep, its comparison, its plots, and the removal."""

import json
import re
import time

import pytest

from tests.helpers.blocks import blocks
from tests.pipeline.conftest import Project

SWEEP = ("-S", "train.demo_fiq.clip.tau=0.01,0.02,0.05")


def wait_for_queue(project: Project, experiments: int) -> str:
    """Waits until a number of experiments have ended; returns the status."""
    deadline = time.monotonic() + 1800
    while time.monotonic() < deadline:
        status = project.run("dvc", "queue", "status").stdout
        if len(re.findall("Success|Failed", status)) == experiments:
            return status
        time.sleep(2)
    return pytest.fail(f"the queue did not end:\n{status}")


def test_a_sweep_is_run_compared_and_plotted(project: Project) -> None:
    """Three temperatures on two workers, each in its own workspace; one temperature is that of the earlier run."""
    queued = project.run("dvc", "exp", "run", "--queue", *SWEEP).stdout
    names = re.findall(r"Queued experiment '([^']+)'", queued)
    assert len(names) == 3
    project.run("dvc", "queue", "start", "-j", "2")
    status = wait_for_queue(project, 3)
    logs = {name: project.run("dvc", "queue", "logs", name, check=False).stdout for name in names}
    assert status.count("Success") == 3, f"{status}\n{logs}"
    trained = ["Running stage 'train@demo_fiq-clip'" in log for log in logs.values()]
    assert sum(trained) == 2, logs
    assert not any("Running stage 'checkpoint@demo_fiq-clip'" in log for log in logs.values())
    _they_are_listed(project, names)
    _they_are_compared(project, names)
    _their_curves_are_plotted(project, names)
    project.run("dvc", "exp", "remove", "--all-commits")
    project.run("dvc", "queue", "remove", "--all")
    assert not any(name in project.run("dvc", "exp", "list", "--name-only").stdout for name in names)


def _they_are_listed(project: Project, names: list[str]) -> None:
    """They are listed with their temperatures, beside the workspace and the last commit."""
    lines = project.run("spn4cir", "runs", "--dataset", "demo_fiq").stdout.splitlines()
    assert lines[0] == "demo_fiq/clip: average_recall, percent, the best first"
    assert lines[1].split() == ["run", "average_recall", "train.tau"]
    assert lines[-1].startswith("24 queries are too few for a conclusion")
    taus = {line.split()[0]: float(line.split()[2]) for line in lines[2:-1]}
    assert sorted(taus[name] for name in names) == [0.01, 0.02, 0.05]
    assert set(taus) == {*names, "workspace", "main"}


def _they_are_compared(project: Project, names: list[str]) -> None:
    """They are compared by name, from DVC's cache; the workspace contains none of their files."""
    arguments = ("--dataset", "demo_fiq", "--json", "differences.json")
    said = project.run("spn4cir", "compare", *names, *arguments).stdout
    assert f"demo_fiq/clip: A = {names[0]}, B = {names[2]}, 24 queries" in said
    found = json.loads((project.root / "differences.json").read_text())
    assert list(found) == names[1:]
    assert found[names[1]]["average_recall"].keys() == {"a", "b", "difference", "low", "high", "verdict"}
    arguments = ("--dataset", "demo_fiq", "--html", "differences.html")
    assert "24 of 24 queries" in project.run("spn4cir", "compare", "HEAD", names[2], *arguments).stdout
    page = (project.root / "differences.html").read_text(encoding="utf-8")
    assert '<th scope="row">train.<wbr>tau</th>' in page
    assert "data:image/webp" in page
    beside = project.run("spn4cir", "compare", "--to", "paper", names[0], "--dataset", "demo_fiq").stdout
    assert "not comparable, because these differ: data, " in beside


def _their_curves_are_plotted(project: Project, names: list[str]) -> None:
    """Both runs in one page: curves of loss, score, rate and temperature, bars of recalls."""
    project.run("dvc", "plots", "diff", *names[:2])
    page = (project.root / "dvc_plots" / "index.html").read_text()
    place = "data_train_demo_fiq_clip_figures"
    for figure in ("steps_loss", "epochs_score", "epochs_learning_rate", "epochs_temperature"):
        assert f'id = "{place}_{figure}_tsv"' in page
    assert 'id = "data_validate_demo_fiq_clip_recalls_tsv"' in page
    assert all(f'"rev": "{name}"' in page for name in names[:2])


def commands(start: str) -> list[str]:
    """The commands of the page's block that begins with `start`."""
    (block,) = (each for each in blocks() if each.page == "experiments.md" and each.first.startswith(start))
    return block.commands()


def test_what_this_machine_changed_is_committed_first(project: Project) -> None:
    """HEAD contains another machine's scores: compare refuses it until the page's commit; going back reruns nothing."""
    metrics = project.root / "metrics/demo_fiq/clip.json"
    ours = metrics.read_text()
    metrics.write_text(json.dumps(json.loads(ours) | {"average_recall": 99.0}))
    project.commit("the scores of another machine")
    metrics.write_text(ours)
    said = project.run("spn4cir", "compare", "HEAD", "workspace", "--dataset", "demo_fiq", check=False).stderr
    assert "they belong to two runs: commit metrics with dvc.lock" in said
    for command in commands("git commit"):
        project.run("bash", "-c", command)
    (command,) = commands("dvc exp run -S")
    (name,) = re.findall(r"Ran experiment\(s\): (\S+)", project.run("bash", "-c", command).stdout)
    assert "24 queries" in project.run("spn4cir", "compare", "HEAD", name, "--dataset", "demo_fiq").stdout
    for command in commands("git checkout"):
        project.run("bash", "-c", command)
    assert "up to date" in project.run("dvc", "status").stdout
    assert metrics.read_text() == ours
