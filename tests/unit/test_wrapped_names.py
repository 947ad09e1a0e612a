"""Weights saved from a network that DataParallel, DDP or torch.compile wrapped are those of the network itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from spn4cir.checkpoints.published import read_checkpoint
from spn4cir.cli import app
from spn4cir.errors import InputError
from spn4cir.positives.unicom import Unicom, UnicomSizes, load_unicom
from spn4cir.weights import unwrapped
from tests.helpers.published import FAMILIES, write_published

PREFIXES = ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module."]
Rename = Callable[[str], str]


def rewrite(path: Path, rename: Rename) -> str:
    """Gives the tensors of a checkpoint other names; returns the key of their container."""
    content: dict[str, Any] = torch.load(path, weights_only=True)
    (key,) = (key for key, value in content.items() if isinstance(value, dict))
    content[key] = {rename(name): tensor for name, tensor in content[key].items()}
    torch.save(content, path)
    return key


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_wrapped_network_of_each_family_and_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], family: str, stage: int, prefix: str
) -> None:
    path = write_published(tmp_path / "a.pt", family, stage)
    plain = read_checkpoint(path)
    assert capsys.readouterr().err == ""
    key = rewrite(path, lambda name: prefix + name)
    read = read_checkpoint(path, family)
    assert (read.family, read.stage, read.epoch) == (plain.family, plain.stage, plain.epoch)
    assert same(read.state, plain.state)
    (line,) = capsys.readouterr().err.splitlines()
    found = ", ".join(f"'{name}.'" for name in ("module", "_orig_mod") if name in prefix)
    assert line == f"{path}: '{key}': was saved from a wrapped network; removed {found} from the names"


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.module."])
@pytest.mark.parametrize(("family", "own"), [("clip", "clip."), ("blip", "blip."), ("blip2", "blip_model.")])
def test_a_part_that_was_wrapped_inside_the_familys_prefix(tmp_path: Path, family: str, own: str, wrapper: str) -> None:
    """`clip.module.visual...`, and BLIP's `tau` beside it as it is; then wrapped once more as a whole."""
    path = write_published(tmp_path / "a.pt", family, 2)
    plain = read_checkpoint(path).state
    rewrite(path, lambda name: own + wrapper + name.removeprefix(own) if name.startswith(own) else name)
    assert same(read_checkpoint(path).state, plain)
    rewrite(path, lambda name: f"module.{name}")
    assert same(read_checkpoint(path).state, plain)


def test_one_tower_that_was_wrapped(tmp_path: Path) -> None:
    path = write_published(tmp_path / "a.pt", "clip", 1)
    plain = read_checkpoint(path).state
    rewrite(path, lambda name: name.replace("visual.", "visual._orig_mod.", 1) if name.startswith("visual.") else name)
    assert same(read_checkpoint(path).state, plain)


def test_names_of_which_some_are_wrapped_are_refused(tmp_path: Path) -> None:
    path = write_published(tmp_path / "a.pt", "clip", 1)
    rewrite(path, lambda name: name if name == "logit_scale" else f"module.{name}")
    with pytest.raises(
        InputError, match=r"a\.pt: 'CLIP': \d+ names begin with 'module\.' and 1 do not, as 'logit_scale'; write"
    ) as raised:
        read_checkpoint(path)
    assert "\n" not in str(raised.value)


def test_names_are_as_torch_wraps_them() -> None:
    plain = nn.Sequential(nn.Linear(2, 2))
    for wrapped in (nn.DataParallel(plain), torch.compile(plain), torch.compile(nn.DataParallel(plain))):
        state = wrapped.state_dict()
        assert state.keys() != plain.state_dict().keys()
        assert unwrapped(state, "a.pt").keys() == plain.state_dict().keys()


def test_the_command_says_what_a_wrapped_file_holds(tmp_path: Path) -> None:
    path = write_published(tmp_path / "a.pt", "clip", 2)
    plain = CliRunner().invoke(app, ["inspect", str(path)])
    rewrite(path, lambda name: f"module.{name}")
    result = CliRunner().invoke(app, ["inspect", str(path)])
    assert (result.exit_code, result.stdout) == (0, plain.stdout)
    assert "was saved from a wrapped network; removed 'module.' from" in result.stderr


def test_a_wrapped_encoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = Unicom(UnicomSizes(16, 8, 32, 1, 1, 32, 8, 4))
    state = model.state_dict()
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, tmp_path / "unicom.pt")
    assert same(load_unicom(tmp_path / "unicom.pt").state_dict(), state)
    assert "unicom.pt: was saved from a wrapped network; removed 'module.'" in capsys.readouterr().err
