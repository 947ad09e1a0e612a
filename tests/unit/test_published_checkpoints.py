"""The published containers of all families, and files that are none."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from spn4cir.checkpoints.published import load_composer, read_checkpoint, save_composer
from spn4cir.errors import InputError
from tests.helpers.checkpoints import container, tiny_state, write_checkpoint


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("family", ["clip", None])
def test_both_containers_hold_the_same_names(tmp_path: Path, stage: int, family: str | None) -> None:
    read = read_checkpoint(write_checkpoint(tmp_path / "a.pt", stage), family)
    assert (read.family, read.stage) == ("clip", stage)
    state = tiny_state()
    assert read.state.keys() == state.keys()
    assert all(torch.equal(read.state[name], state[name]) for name in state)


@pytest.mark.parametrize("tower", ["vit", "resnet"])
def test_float16_files_are_loaded_as_float32(tmp_path: Path, tower: Any) -> None:
    """Integers (BatchNorm's counters) stay what they are."""
    half = {name: t.half() if t.is_floating_point() else t for name, t in tiny_state(tower).items()}
    torch.save(container(half), tmp_path / "a.pt")
    tensors = load_composer(tmp_path / "a.pt").state_dict()
    for name, tensor in half.items():
        loaded = tensors[f"clip.{name}"]
        assert loaded.dtype is (torch.float32 if tensor.is_floating_point() else torch.int64)
        assert torch.equal(loaded, tensor.to(loaded.dtype))


def test_known_extras_and_top_level_strangers_are_accepted(tmp_path: Path) -> None:
    """OpenAI's scalars beside the weights, an optimiser beside the state dict."""
    state = tiny_state()
    for name in ("input_resolution", "context_length", "vocab_size"):
        state[name] = torch.tensor(7)
    torch.save(container(state) | {"optimizer": {"lr": 0.1}, "note": "x"}, tmp_path / "a.pt")
    load_composer(tmp_path / "a.pt", "clip")


@pytest.mark.parametrize("stage", [1, 2])
def test_saved_and_loaded_is_unchanged(tmp_path: Path, stage: int) -> None:
    """Every bit, in the container of the stage, from a network with gradients and on whatever is between."""
    composer = load_composer(write_checkpoint(tmp_path / "in.pt", 3 - stage))
    composer.train_stage(1)
    save_composer(composer, tmp_path / "out" / "a.pt", stage, epoch=5)
    content = torch.load(tmp_path / "out" / "a.pt", weights_only=True)
    expected = container(tiny_state(), stage) | {"epoch": 5}
    assert content.keys() == expected.keys()
    key = "CLIP" if stage == 1 else "state_dict"
    assert content["epoch"] == 5
    assert content[key].keys() == expected[key].keys()
    assert all(torch.equal(content[key][name], tensor) for name, tensor in expected[key].items())
    assert not any(tensor.requires_grad for tensor in content[key].values())
    again = load_composer(tmp_path / "out" / "a.pt", "clip").state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in composer.state_dict().items())


FOREIGN = {
    ("tgcir", 1): {"state_dict": {"backbone.masks.weight": torch.zeros(4, 2)}},
    ("tgcir", 2): {
        "state_dict": {"backbone.masks.weight": torch.zeros(4, 2), "backbone.masks_text.weight": torch.zeros(4, 2)}
    },
    ("blip", 1): {"BLIP_Retrieval": {"temp": torch.zeros(())}},
    ("blip", 2): {"state_dict": {"tau": torch.zeros(()), "blip.temp": torch.zeros(())}},
    ("blip2", 1): {"Blip2QformerCirAlignPrompt": {"temp": torch.zeros(())}},
    ("blip2", 2): {"state_dict": {"blip_model.temp": torch.zeros(())}},
}


@pytest.mark.parametrize(("family", "stage"), list(FOREIGN))
def test_another_family_is_named(tmp_path: Path, family: str, stage: int) -> None:
    """The container names the family, even if the file lacks other things."""
    torch.save({"epoch": 1, **FOREIGN[family, stage]}, tmp_path / "a.pt")
    with pytest.raises(InputError, match=rf"a\.pt: is a stage-{stage} checkpoint of family '{family}', not 'clip'"):
        read_checkpoint(tmp_path / "a.pt", "clip")
    with pytest.raises(InputError, match=r"a\.pt: .*(missing|unexpected)"):
        load_composer(tmp_path / "a.pt")


def test_names_outside_the_prefix_are_listed(tmp_path: Path) -> None:
    content = container(tiny_state(), stage=2)
    content["state_dict"]["tau"] = torch.tensor(0.1)
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"unexpected \['tau'\] in 'state_dict'"):
        read_checkpoint(tmp_path / "a.pt")


class Code:
    """Would make a folder when unpickled by a careless reader."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle 2", "pickle 4"])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, form: str) -> None:
    path, value = tmp_path / "a.pt", {"CLIP": Code(tmp_path / "ran")}
    if form.startswith("pickle"):
        path.write_bytes(pickle.dumps(value, protocol=int(form[-1])))
    else:
        torch.save(value, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(InputError, match="refused: it contains code") as raised:
        read_checkpoint(path)
    assert not (tmp_path / "ran").exists()
    assert "weights_only" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is not a checkpoint"),
        (b"<html>not found</html>", "is not a checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "is not a checkpoint"),
        (b"\0" * 1000, "is not a checkpoint"),
        (b"PK\x03\x04" + b"\0" * 100, "is not a checkpoint"),
        ([1, 2], "got a list, expected a dict"),
        ({"model": {}, "epoch": 3}, "contains model, epoch; expected one of 'BLIP_Retrieval', .*'CLIP'"),
        ({"CLIP": {}}, "is not a known checkpoint: 'CLIP' contains no weights of a family; check the file"),
        ({"CLIP": {"a": 3}}, r"unexpected \['a'\]"),
        ({"state_dict": {"other.weight": torch.zeros(1)}}, "is not a known checkpoint"),
    ],
)
def test_what_is_not_a_checkpoint_is_reported_in_one_line(tmp_path: Path, content: Any, problem: str) -> None:
    path = tmp_path / "a.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(InputError, match=problem) as raised:
        read_checkpoint(path, "clip")
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_a_torchscript_archive_is_distinguished_from_a_broken_file(tmp_path: Path) -> None:
    """OpenAI publishes CLIP as such; to download it again would not help."""
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"is a TorchScript archive, .*open_clip: NAME, tag: openai"):
        read_checkpoint(tmp_path / "a.pt")


def test_whole_numbers_are_no_weights(tmp_path: Path) -> None:
    state = {name: t.long() if name == "text_projection" else t for name, t in tiny_state().items()}
    torch.save(container(state), tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"kind \['text_projection of torch.int64'\]"):
        load_composer(tmp_path / "a.pt")


def test_absent_files_folders_and_cut_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "none.pt")
    with pytest.raises(InputError, match="is a folder"):
        read_checkpoint(tmp_path)
    whole = write_checkpoint(tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="is cut short"):
        read_checkpoint(tmp_path / "a.pt")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("legacy", [False, True])
def test_damaged_bytes_never_end_in_a_traceback(tmp_path: Path, legacy: bool) -> None:
    """Torch raises whatever it stumbles over: IndexError, struct.error, AssertionError."""
    path = tmp_path / "a.pt"
    torch.save({"CLIP": {"a": torch.zeros(3)}}, path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    generator = torch.Generator().manual_seed(0)
    refused = 0
    for place, value in torch.randint(2**31, (300, 2), generator=generator).tolist():
        damaged = bytearray(whole)
        damaged[place % len(whole)] = value % 256
        path.write_bytes(damaged)
        try:
            read_checkpoint(path)
        except InputError:
            refused += 1
    assert refused > 10
