"""The programs of docs/ that read a run with other tools: pandas, TensorBoard, Weights & Biases."""

import json
import sys
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from spn4cir.cli import app
from spn4cir.training.figures import write_figures
from spn4cir.training.trainer import History
from tests.helpers.blocks import blocks
from tests.helpers.checkpoints import write_checkpoint
from tests.helpers.layouts import write_fashioniq

FIGURES = {
    ("epochs/learning_rate", 1): 0.5,
    ("epochs/loss", 1): 2.5,
    ("epochs/score", 1): 40.0,
    ("epochs/temperature", 1): 0.02,
    ("scores/average_recall", 1): 40.0,
    ("steps/loss", 1): 3.0,
    ("steps/loss", 2): 2.0,
}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def figures() -> None:
    """The figures of a run, as the stage `train` writes them."""
    epoch = {"epoch": 1, "loss": 2.5, "score": 40.0, "learning_rate": 0.5, "temperature": 0.02, "average_recall": 40.0}
    steps = [{"step": 1, "epoch": 1, "loss": 3.0}, {"step": 2, "epoch": 1, "loss": 2.0}]
    out = Path("data/train/demo_fiq/clip/figures")
    write_figures(History(steps, [epoch]), out, Path("data/speed/train"))


def run(page: str, start: str) -> dict:
    """Runs the program of a page that begins so, and returns its variables."""
    (block,) = (each for each in blocks() if each.page == page and each.first.startswith(start))
    names: dict = {}
    exec(compile(block.text, str(block), "exec"), names)
    return names


def test_tensorboard_reads_every_figure(figures, monkeypatch):
    """TensorBoard is not installed: its writer is replaced."""
    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = MagicMock()
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    run("experiments.md", "import csv")
    calls = module.SummaryWriter.return_value.__enter__.return_value.add_scalar.call_args_list
    assert {(name, step): value for name, value, step in (call.args for call in calls)} == FIGURES


def test_weights_and_biases_reads_every_figure(figures, monkeypatch):
    """The package is not installed: it is replaced."""
    module = ModuleType("wandb")
    module.init = MagicMock()
    monkeypatch.setitem(sys.modules, "wandb", module)
    run("experiments.md", "import wandb")
    logged = [dict(call.args[0]) for call in module.init.return_value.__enter__.return_value.log.call_args_list]
    assert {(name, row["step"]): row[name] for row in logged for name in row.keys() - {"step"}} == FIGURES


def test_pandas_reads_the_scores(tmp_path):
    write_fashioniq(tmp_path / "fiq")
    write_checkpoint(tmp_path / "best.pt", 2)
    done = CliRunner().invoke(
        app, ["validate", "--layout", "fashioniq", "--root", "fiq", "--checkpoint", "best.pt", "--json", "metrics.json"]
    )
    assert done.exit_code == 0, done.output
    metrics = json.loads(Path("metrics.json").read_text())
    table = pq.read_table(metrics["queries"])
    out = Path("data/validate/demo_fiq/clip/queries.parquet")
    out.parent.mkdir(parents=True)
    pq.write_table(table.append_column("stage1_rank", pa.array([1] * len(table))), out)
    found = run("scores.md", "import pandas")
    expected = {name: metrics[f"{name}_recall_at10"] for name in ("dress", "shirt", "toptee")}
    assert found["by_category"].to_dict() == pytest.approx(expected)
    assert len(found["lost"]) == sum(rank > 10 for rank in table["rank"].to_pylist())
