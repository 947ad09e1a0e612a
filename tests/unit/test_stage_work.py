"""What keys the work of the long stages, and what becomes of work that another key left."""

import importlib
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch


class Reached(Exception):
    """Ends a stage where it asks for its folder."""


@pytest.mark.parametrize("stage", ["checkpoint", "bank", "train"])
@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
def test_work_is_keyed_by_the_kind_of_device(monkeypatch: pytest.MonkeyPatch, stage: str, device: str) -> None:
    """float16 runs on a GPU only, so half of a run there and half on the CPU is the result of neither."""
    module = importlib.import_module(f"stages.{stage}")
    seen: dict[str, Any] = {}

    def folder(place: Path, determinants: dict[str, Any]) -> Path:
        seen.update(determinants)
        raise Reached

    for name in ("load_composer", "read_optimized_images", "file_hash", "tree_hash", "listing_hash", "of_dataset"):
        monkeypatch.setattr(module, name, MagicMock(), raising=False)
    monkeypatch.setattr(module, "of_family", MagicMock(return_value=MagicMock(source="train")))
    monkeypatch.setattr(module, "choose_device", lambda name: torch.device(device))
    monkeypatch.setattr(module, "work_folder", folder)
    with pytest.raises(Reached):
        module.main(MagicMock(dataset="d", family="f"))
    assert seen["device"] == device.split(":")[0]
