"""Tiny models with random weights, as files of a data set of the pipeline."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from spn4cir.images.preprocess import CLIP_MEAN, CLIP_STD
from spn4cir.positives.unicom import Unicom, UnicomSizes
from tests.helpers.checkpoints import tiny_state
from tests.helpers.tiny_llava import save_tiny_llava

_ENCODER = UnicomSizes(image_size=32, patch_size=16, width=64, depth=1, heads=1, mlp_width=128, hidden_dim=32, dim=32)
_CLIP = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "head_width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}


def write_models(folder: Path) -> None:
    """Writes a LLaVA, a Unicom and a CLIP to the paths of the demo's local models in `params.yaml`."""
    _always_answering(save_tiny_llava(folder / "captioner"))
    write_encoder(folder / "encoder" / "unicom.pt")
    base = folder / "stage1" / "clip"
    base.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": _CLIP, "preprocess_cfg": {"mean": list(CLIP_MEAN), "std": list(CLIP_STD)}}
    (base / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    tensors = {name: tensor.contiguous() for name, tensor in tiny_state().items()}
    save_file(tensors, base / "open_clip_model.safetensors")
    shutil.copytree(base, folder / "baselines" / "clip", dirs_exist_ok=True)


def write_encoder(path: Path) -> None:
    """Writes a Unicom."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.save(Unicom(_ENCODER).eval().state_dict(), path)


def _always_answering(captioner: Path) -> None:
    """Makes the first token of an answer a word, as random weights end some answers at once."""
    path = captioner / "generation_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings |= {"min_new_tokens": 1, "suppress_tokens": [0, 1, 3, 4]}
    path.write_text(json.dumps(settings), encoding="utf-8")
