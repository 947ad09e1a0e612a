"""Baselines without training: each rule of composition is scored from one encoding of the images."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from spn4cir.cli import app
from spn4cir.composers.compositions import COMPOSITIONS, RuleComposer
from tests.helpers.layouts import write_fashioniq
from tests.helpers.published import flags, write_published


@pytest.fixture(scope="module")
def fiq(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fashioniq(tmp_path_factory.mktemp("data") / "fiq")


def validate(root: Path, checkpoint: object, *more: object, status: int = 0) -> Result:
    where = ["--layout", "fashioniq", "--root", root, "--checkpoint", checkpoint, "--json", root.parent / "m.json"]
    arguments = ["validate", *where, "--workers", 0, *more]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result


def test_baselines_are_scored_from_one_encoding(
    fiq: Path, clip_folder: Path, clip_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each baseline equals a run with its composition; the printed table has a column for each."""
    name, encoded = f"local-dir:{clip_folder}", []
    encode = RuleComposer.encode_image
    monkeypatch.setattr(
        RuleComposer, "encode_image", lambda self, images: encoded.append(len(images)) or encode(self, images)
    )
    table = validate(fiq, name, "--baselines").stdout.splitlines()
    once = sum(encoded)
    content = json.loads((fiq.parent / "m.json").read_text())
    assert list(content["baselines"]) == list(COMPOSITIONS)
    assert content["protocol"]["composition"] == "sum"
    assert content["weights"]["name"] == f"local-dir:{clip_folder.name}"
    assert table[0].split() == ["query", *COMPOSITIONS]
    row = next(line.split() for line in table if line.startswith("average_recall "))
    columns = [content, *content["baselines"].values()]
    assert row[1:] == [f"{column['average_recall']:.2f}" for column in columns]
    for rule in COMPOSITIONS:
        encoded.clear()
        assert "query" not in validate(fiq, name, "--composition", rule).stdout.splitlines()[0]
        assert sum(encoded) == once
        alone = json.loads((fiq.parent / "m.json").read_text())
        assert alone["protocol"]["composition"] == rule
        assert {key: alone[key] for key in content["baselines"][rule]} == content["baselines"][rule]
    validate(fiq, clip_file, "--baselines")
    content = json.loads((fiq.parent / "m.json").read_text())
    assert {key: content[key] for key in content["baselines"]["sum"]} == content["baselines"]["sum"]
    assert "composition" not in content["protocol"]


def test_the_text_baseline_is_the_text_alone_of_the_shortcuts(fiq: Path, clip_file: Path) -> None:
    validate(fiq, clip_file, "--baselines", "--shortcuts")
    content = json.loads((fiq.parent / "m.json").read_text())
    assert content["baselines"]["text"] == content["shortcuts"]["text_alone"]


def test_baselines_of_another_family_are_refused_before_any_image_is_read(fiq: Path, tmp_path: Path) -> None:
    path = write_published(tmp_path / "tgcir.pt", "tgcir")
    said = validate(fiq, path, "--baselines", *flags("tgcir", tmp_path), status=1).stderr
    assert "family 'tgcir' composes with layers of its own; leave out --composition and --baselines" in said
