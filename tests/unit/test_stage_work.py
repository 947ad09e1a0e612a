"""The keys of the work folders of long stages, and the removal of work with other keys."""

import importlib
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch

import stages.galleries
import stages.training
from spn4cir.errors import InputError
from spn4cir.files import file_hash
from stages.common import Job
from stages.work import clear_others, code_hash


class Reached(Exception):
    """Ends a stage when it requests its work folder."""


@pytest.mark.parametrize("stage", ["checkpoint", "bank", "gallery", "train"])
@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
def test_work_is_keyed_by_the_kind_of_device(monkeypatch: pytest.MonkeyPatch, stage: str, device: str) -> None:
    """float16 runs only on a GPU, so a run must not continue on the other kind of device."""
    module = importlib.import_module(f"stages.{stage}")
    seen: dict[str, Any] = {}

    def folder(place: Path, determinants: dict[str, Any]) -> Path:
        seen.update(determinants)
        raise Reached

    replaced: dict[str, Any] = {
        name: MagicMock()
        for name in (
            "load_composer",
            "read_optimized_images",
            "file_hash",
            "tree_hash",
            "data_hash",
            "scored_layout",
            "of_dataset",
            "model_source",
            "unique_images",
            "code_hash",
        )
    } | {
        "of_family": MagicMock(return_value=MagicMock(source="train", train=MagicMock(batch_size=4))),
        "stage_device": lambda job: torch.device(device),
        "image_workers": lambda job: (0, torch.device(device)),
        "images_to_encode": MagicMock(return_value=(MagicMock(), ())),
        "work_folder": folder,
    }
    for place in (module, stages.training, stages.galleries):
        for name, value in replaced.items():
            monkeypatch.setattr(place, name, value, raising=False)
    job = MagicMock(dataset="d", family="f")
    job.params.machine = MagicMock(processes=1, launch=None)
    with pytest.raises(Reached):
        module.main(job)
    assert seen["device"] == device.split(":")[0]


def test_work_of_other_keys_is_cleared_and_its_own_kept(tmp_path: Path) -> None:
    for name in ("own", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.pt").write_bytes(b"x")
    clear_others(tmp_path / "own")
    assert [path.name for path in tmp_path.iterdir()] == ["own"]
    assert (tmp_path / "own" / "state.pt").is_file()


def test_work_is_keyed_by_the_code_that_the_stage_code_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hash is that of the stage, data set and family; a missing file is an error."""
    monkeypatch.chdir(tmp_path)
    job = Job(MagicMock(), "fiq", "clip")
    with pytest.raises(InputError, match=r"data/code/train/fiq-clip\.txt: no such file; run: dvc repro code"):
        code_hash(job, "train")
    for stage, text in (("train", "a"), ("bank", "b")):
        place = tmp_path / "data/code" / stage / "fiq-clip.txt"
        place.parent.mkdir(parents=True)
        place.write_text(text)
    assert code_hash(job, "train") == file_hash(tmp_path / "data/code/train/fiq-clip.txt") != code_hash(job, "bank")
