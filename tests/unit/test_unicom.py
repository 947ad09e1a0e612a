import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from spn4cir.errors import InputError
from spn4cir.images.preprocess import CLIP_MEAN, CLIP_STD
from spn4cir.positives.unicom import Unicom, UnicomSizes, load_unicom

SIZES = UnicomSizes(
    image_size=24, patch_size=8, width=128, depth=2, heads=2, mlp_width=256, hidden_dim=48, dim=16
)  # fmt: skip


class Pickled:
    def __reduce__(self):
        return os.system, ("true",)


@pytest.fixture
def model() -> Unicom:
    torch.manual_seed(0)
    model = Unicom(SIZES)
    for normalisation in (model.feature[1], model.feature[3]):
        nn.init.normal_(normalisation.running_mean)
        nn.init.uniform_(normalisation.running_var, 0.5, 2)
    return model.eval()


def saved(model: Unicom, path: Path, **changes: torch.Tensor | None) -> Path:
    state = {**model.state_dict(), **changes}
    torch.save({name: tensor for name, tensor in state.items() if tensor is not None}, path)
    return path


def test_published_layout_names_each_tensor_as_timm_does(model: Unicom) -> None:
    """Every name is timm's own, or one of the head."""
    trunk = VisionTransformer(
        img_size=24, patch_size=8, embed_dim=128, depth=2, num_heads=2, mlp_ratio=2, qkv_bias=False,
        class_token=False, num_classes=0, global_pool="", act_layer=nn.ReLU6,
    )  # fmt: skip
    head = [name for name in model.state_dict() if name not in trunk.state_dict()]
    assert set(trunk.state_dict()) <= set(model.state_dict())
    assert {name.split(".")[0] for name in head} == {"feature"}
    assert {name.split(".")[1] for name in head} == {"0", "1", "2", "3"}


def test_output_equals_the_formula(model: Unicom) -> None:
    """The forward pass equals attention, ReLU6 feed-forward and head written out in plain tensor algebra."""
    images = torch.randn(3, 3, 24, 24)
    weights = model.state_dict()
    tokens = nn.functional.conv2d(
        images, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], stride=8
    )
    tokens = tokens.flatten(2).transpose(1, 2) + weights["pos_embed"]
    for block in ("blocks.0.", "blocks.1."):
        tokens = written_out_block(tokens, {n.removeprefix(block): w for n, w in weights.items()})
    flat = nn.functional.layer_norm(tokens, (128,), weights["norm.weight"], weights["norm.bias"]).flatten(1)
    for linear, norm in (("feature.0", "feature.1"), ("feature.2", "feature.3")):
        flat = flat @ weights[f"{linear}.weight"].T
        scale = weights[f"{norm}.weight"] / torch.sqrt(weights[f"{norm}.running_var"] + 2e-5)
        flat = (flat - weights[f"{norm}.running_mean"]) * scale + weights[f"{norm}.bias"]
    torch.testing.assert_close(model(images), flat, atol=1e-5, rtol=1e-4)


def written_out_block(tokens: torch.Tensor, w: dict[str, torch.Tensor]) -> torch.Tensor:
    normed = nn.functional.layer_norm(tokens, (128,), w["norm1.weight"], w["norm1.bias"])
    q, k, v = (normed @ w["attn.qkv.weight"].T).chunk(3, dim=-1)
    heads = []
    for columns in (slice(0, 64), slice(64, 128)):
        scores = q[..., columns] @ k[..., columns].transpose(1, 2) / 8
        heads.append(scores.softmax(-1) @ v[..., columns])
    tokens = tokens + torch.cat(heads, -1) @ w["attn.proj.weight"].T + w["attn.proj.bias"]
    normed = nn.functional.layer_norm(tokens, (128,), w["norm2.weight"], w["norm2.bias"])
    hidden = (normed @ w["mlp.fc1.weight"].T + w["mlp.fc1.bias"]).clamp(0, 6)
    return tokens + hidden @ w["mlp.fc2.weight"].T + w["mlp.fc2.bias"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_sizes_are_read_off_the_file(model: Unicom, tmp_path: Path, dtype: torch.dtype) -> None:
    """A saved network of any size, in 16 bit as published too, loads in float32 without being named."""
    saved(model.to(dtype), tmp_path / "unicom.pt")
    loaded = load_unicom(tmp_path / "unicom.pt")
    assert loaded.sizes == SIZES
    assert not loaded.training
    assert all(tensor.dtype == torch.float32 for tensor in loaded.parameters())
    torch.testing.assert_close(loaded.pos_embed, model.pos_embed.float())


def test_preprocessing_is_clip_s_without_padding(model: Unicom) -> None:
    """A wide image keeps its centre at the network's input size; white becomes (1 - mean) / std."""
    image = Image.new("RGB", (100, 24))
    image.paste((255, 255, 255), (30, 0, 70, 24))
    pixels = model.preprocess(image).numpy()
    white = (1 - np.array(CLIP_MEAN)) / np.array(CLIP_STD)
    assert pixels.shape == (3, 24, 24)
    np.testing.assert_allclose(pixels, np.broadcast_to(white[:, None, None], pixels.shape), rtol=1e-5)


def test_missing_and_unexpected_tensors_are_listed(model: Unicom, tmp_path: Path) -> None:
    path = saved(model, tmp_path / "unicom.pt", **{"norm.weight": None, "extra": torch.ones(1)})
    with pytest.raises(InputError, match=r"unicom\.pt: .*missing \['norm\.weight'\]; unexpected \['extra'\]"):
        load_unicom(path)


def test_misshapen_tensors_are_listed(model: Unicom, tmp_path: Path) -> None:
    path = saved(model, tmp_path / "unicom.pt", **{"norm.weight": torch.ones(3)})
    with pytest.raises(InputError, match=r"shape \['norm\.weight \(3,\) instead of \(128,\)'\]"):
        load_unicom(path)


def test_whole_numbers_are_no_weights(model: Unicom, tmp_path: Path) -> None:
    path = saved(model, tmp_path / "unicom.pt", **{"norm.weight": torch.ones(128, dtype=torch.long)})
    with pytest.raises(InputError, match=r"kind \['norm\.weight of torch\.int64'\]"):
        load_unicom(path)


def test_counters_of_any_kind_are_taken(model: Unicom, tmp_path: Path) -> None:
    """A file that was cast as a whole contains the batch counters of its norms as floating-point numbers."""
    path = saved(model, tmp_path / "unicom.pt", **{"feature.1.num_batches_tracked": torch.tensor(7.0)})
    assert load_unicom(path).feature[1].num_batches_tracked == 7


def test_a_long_list_of_names_is_cut(model: Unicom, tmp_path: Path) -> None:
    path = saved(model, tmp_path / "unicom.pt", **{f"extra.{i:02}": torch.ones(1) for i in range(13)})
    with pytest.raises(InputError, match=r"unexpected \['extra\.00', .*'extra\.09'\] and 3 more; check the file"):
        load_unicom(path)


def test_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save({"visual.proj": torch.ones(2, 2)}, tmp_path / "clip.pt")
    torch.save({"CLIP": {"visual.proj": torch.ones(2, 2)}}, tmp_path / "nested.pt")
    torch.save({}, tmp_path / "empty.pt")
    for name, found in (("clip.pt", "visual.proj"), ("nested.pt", "CLIP"), ("empty.pt", "nothing")):
        with pytest.raises(InputError, match=rf"{name}: is not a Unicom checkpoint.*it contains {found}"):
            load_unicom(tmp_path / name)


def test_file_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save({"norm.weight": Pickled()}, tmp_path / "code.pt")
    with pytest.raises(InputError, match=r"code\.pt: refused: it contains code or objects"):
        load_unicom(tmp_path / "code.pt")


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"\x89PNG\r\n\x1a\n" + bytes(64), b"PK\x03\x04"])
def test_files_that_are_no_checkpoints_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"file\.pt: is not a checkpoint") as raised:
        load_unicom(tmp_path / "file.pt")
    assert "\n" not in str(raised.value)


def test_truncated_checkpoint_is_refused(model: Unicom, tmp_path: Path) -> None:
    path = saved(model, tmp_path / "unicom.pt")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"unicom\.pt: is not a checkpoint"):
        load_unicom(path)


def test_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.pt: no such checkpoint"):
        load_unicom(tmp_path / "none.pt")
