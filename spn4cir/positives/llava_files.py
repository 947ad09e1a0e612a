"""Loads the processor and the model of a LLaVA through transformers, from a folder or the hub.

In folders that earlier versions of transformers saved, the processor lacks values that the model's configuration
contains, and the chat template is among the tokenizer's settings.
"""

import importlib
import sys
from typing import Any

import torch

from spn4cir.errors import InputError, first_line

# Names of the class token's embedding in the supported vision towers.
_CLASS_TOKENS = ("class_embedding", "cls_token")


def transformers() -> Any:
    """Imports transformers on first use: it takes seconds, and a run without missing captions needs no model."""
    return importlib.import_module("transformers")


def load_processor(place: str, settings: dict[str, Any]) -> Any:
    """Loads the processor; without a chat template of its own, it gets the tokenizer's.

    Args:
        place: a folder or a hub name.
        settings: further arguments of `from_pretrained`.

    Raises:
        InputError: the processor cannot be loaded, belongs to another kind of model, or there is no chat template.
    """
    try:
        processor = transformers().AutoProcessor.from_pretrained(place, **settings)
    except Exception as error:  # a damaged file makes the library raise nearly anything
        raise _unreadable(place, "processor", error, settings) from None
    if not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
        raise InputError(
            f"{place}: contains no LLaVA processor (got {type(processor).__name__}); save it there with "
            "AutoProcessor.from_pretrained(...).save_pretrained(folder)"
        )
    processor.chat_template = processor.chat_template or processor.tokenizer.chat_template
    if not processor.chat_template:
        raise InputError(f"{place}: its processor has no chat template; add the model's chat_template.jinja")
    return processor


def complete_processor(processor: Any, model: Any, place: str) -> None:
    """Copies values that the processor lacks from the model, and lists them on stderr.

    The processor needs these values to count an image's tokens: the patch size, the strategy that selects features,
    and the number of tokens that the vision tower has beside the patches.
    """
    config = model.config
    known = {
        "patch_size": config.vision_config.patch_size,
        "vision_feature_select_strategy": config.vision_feature_select_strategy,
    }
    lacking = {name: value for name, value in known.items() if getattr(processor, name, None) is None}
    tower = (name for name, _ in model.named_parameters() if "vision_tower" in name)
    if not getattr(processor, "num_additional_image_tokens", 0) and any(n.endswith(_CLASS_TOKENS) for n in tower):
        lacking["num_additional_image_tokens"] = 1
    for name, value in lacking.items():
        setattr(processor, name, value)
    if lacking:
        found = ", ".join(f"{name} {value}" for name, value in lacking.items())
        print(f"{place}: its processor lacks values; taken from the model: {found}", file=sys.stderr)


def load_model(place: str, dtype: torch.dtype, settings: dict[str, Any]) -> Any:
    """Loads the model, in eval mode.

    Args:
        place: a folder or a hub name.
        dtype: number type of the weights.
        settings: further arguments of `from_pretrained`.

    Raises:
        InputError: the model cannot be loaded, is not a LLaVA, lacks weights, or does not fit into the device's memory.
    """
    library = transformers()
    if not sys.stderr.isatty():
        library.logging.disable_progress_bar()
    source = {key: settings[key] for key in ("local_files_only", "revision") if key in settings}
    try:
        kind = library.AutoConfig.from_pretrained(place, **source).model_type
        if kind != "llava":
            raise InputError(
                f"{place}: is a {kind} model, expected llava; name a LLaVA 1.5 model in transformers' form"
            )
        model, report = library.LlavaForConditionalGeneration.from_pretrained(
            place, dtype=dtype, output_loading_info=True, **settings
        )
    except InputError:
        raise
    except Exception as error:  # a damaged file makes the library raise nearly anything
        raise _unreadable(place, "model", error, settings) from None
    if missing := sorted(report["missing_keys"]):
        raise InputError(f"{place}: lacks {len(missing)} weights ({', '.join(missing[:3])}, ...); copy the model again")
    return model.eval()


def _unreadable(place: str, what: str, error: Exception, settings: dict[str, Any]) -> InputError:
    reason = first_line(error)
    if isinstance(error, torch.OutOfMemoryError):
        return InputError(f"{place}: the captioner does not fit on the device ({reason}); set quantization to 4bit")
    remedy = (
        "copy the whole model there (config, weights, tokenizer, processor, chat template)"
        if "revision" not in settings
        else "check the name and the network, or download the model and name its folder"
    )
    return InputError(f"{place}: the captioner's {what} cannot be loaded ({reason}); {remedy}")
