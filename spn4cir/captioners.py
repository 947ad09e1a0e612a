"""LLaVA through transformers: describes a batch of images, each as its prompt asks."""

import importlib.util
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from safetensors import SafetensorError

from spn4cir.errors import InputError

Quantization = Literal["none", "8bit", "4bit"]
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_LOADING = (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError)


class LlavaCaptioner:
    """A LLaVA model with its processor, for batches of any size.

    The processor's chat template, preprocessing and number of image tokens are used as they are saved with the model.
    """

    def __init__(self, model: Any, processor: Any, device: torch.device, dtype: torch.dtype) -> None:
        self.model = model
        self.processor = processor
        self.device = device
        self.dtype = dtype
        self.tokenizer = processor.tokenizer
        self.tokenizer.padding_side = "left"  # generation goes on from the last position
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token

    def prepare(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Any:
        """The model's inputs, on the CPU; may run in another thread than `generate`.

        Args:
            images: RGB images, one a caption.
            prompts: what to ask about each image; sent as a user turn.
        """
        turns = {prompt: self.user_turn(prompt) for prompt in dict.fromkeys(prompts)}
        bos = self.tokenizer.bos_token
        template_has_bos = bool(bos) and all(turn.startswith(bos) for turn in turns.values())
        return self.processor(
            images=list(images),
            text=[turns[prompt] for prompt in prompts],
            padding=True,
            add_special_tokens=not template_has_bos,
            return_tensors="pt",
        )

    def user_turn(self, prompt: str) -> str:
        """The text that the model reads: the chat template around one image and the prompt."""
        content = [{"type": "image"}, {"type": "text", "text": prompt}]
        turns = [{"role": "user", "content": content}]
        return str(self.processor.apply_chat_template(turns, add_generation_prompt=True))

    @torch.inference_mode()
    def generate(self, inputs: Any, max_new_tokens: int) -> list[str]:
        """The captions of what `prepare` returned: at every step the most likely token (the original samples at 0.01).

        Raises InputError when the device has too little memory for the batch.
        """
        inputs = inputs.to(device=self.device, dtype=self.dtype)  # the token ids stay integers
        length = inputs["input_ids"].shape[1]
        try:
            tokens = self.model.generate(
                **inputs,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                num_beams=1,
                use_cache=True,
                pad_token_id=self.tokenizer.pad_token_id,
            )
        except torch.OutOfMemoryError:
            raise InputError(
                f"captioner: a batch of {len(inputs['input_ids'])} images does not fit on {self.device}; "
                "lower caption.<dataset>.batch_size, or set quantization to 4bit"
            ) from None
        captions = self.processor.batch_decode(tokens[:, length:], skip_special_tokens=True)
        return [caption.strip() for caption in captions]


def load_captioner(
    name_or_folder: str, revision: str | None, dtype: torch.dtype, device: torch.device, quantization: Quantization
) -> LlavaCaptioner:
    """A captioner by hub name or from a folder that `save_pretrained` wrote.

    Args:
        name_or_folder: as `llava-hf/llava-1.5-7b-hf`; an existing folder is read without the network.
        revision: branch, tag or commit of the hub repository; None: its main branch.
        dtype: number type of the weights and of the pixels.
        device: where the model runs.
        quantization: `8bit` and `4bit` need bitsandbytes and a CUDA device.

    Raises:
        InputError: the model cannot be had, is no LLaVA, lacks weights, its processor or its chat template.
    """
    options = quantization_options(quantization, dtype, device)
    if is_folder(name_or_folder):
        settings: dict[str, Any] = {"local_files_only": True}
    else:
        settings = {"local_files_only": not _hub_answers(name_or_folder, revision), "revision": revision or "main"}
    processor = _load_processor(name_or_folder, settings)
    model = _load_model(name_or_folder, dtype, {**settings, **options, "device_map": device})
    return LlavaCaptioner(model, processor, device, dtype)


def is_folder(name_or_folder: str) -> bool:
    """Whether a model is a folder here, rather than a hub name.

    Raises InputError for what is neither: transformers would ask the hub for a misspelt folder.
    """
    if Path(name_or_folder).is_dir():
        return True
    if Path(name_or_folder).exists() or not _HUB_NAME.fullmatch(name_or_folder):
        raise InputError(
            f"{name_or_folder}: no folder with a captioner and no hub name (owner/name); put the model's files there, "
            "or set models.<dataset>.captioner to {hub: llava-hf/llava-1.5-7b-hf}"
        )
    return False


def _hub_answers(name: str, revision: str | None) -> bool:
    """Whether the hub can be reached; without one question first, transformers retries every file for half a minute."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().model_info(name, revision=revision, timeout=10)
    except HfHubHTTPError:
        return True  # it does, and loading will say what it answers
    except Exception:  # no route, a proxy's refusal, offline mode: only a copy in the cache can serve
        return False
    return True


def quantization_options(quantization: Quantization, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """What `from_pretrained` needs to quantise. Raises InputError where bitsandbytes or CUDA is absent."""
    if quantization == "none":
        return {}
    if device.type != "cuda":
        raise InputError(f"captioner: quantization {quantization} needs a CUDA device, got {device}; set it to none")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InputError(
            f"captioner: quantization {quantization} needs bitsandbytes; pip install bitsandbytes, or set it to none"
        )
    config = _transformers().BitsAndBytesConfig
    if quantization == "8bit":
        return {"quantization_config": config(load_in_8bit=True)}
    return {"quantization_config": config(load_in_4bit=True, bnb_4bit_compute_dtype=dtype)}


def _transformers() -> Any:
    """The package, imported late: that takes seconds, and a run whose captions are all there needs no model."""
    import transformers

    return transformers


def _load_processor(place: str, settings: dict[str, Any]) -> Any:
    try:
        processor = _transformers().AutoProcessor.from_pretrained(place, **settings)
    except _LOADING as error:
        raise _unreadable(place, "processor", error, settings) from None
    if not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
        raise InputError(
            f"{place}: holds no LLaVA processor (got {type(processor).__name__}); save it there with "
            "AutoProcessor.from_pretrained(...).save_pretrained(folder)"
        )
    if not processor.chat_template:
        raise InputError(f"{place}: its processor has no chat template; add the model's chat_template.jinja")
    return processor


def _load_model(place: str, dtype: torch.dtype, settings: dict[str, Any]) -> Any:
    transformers = _transformers()
    if not sys.stderr.isatty():
        transformers.logging.disable_progress_bar()
    source = {key: settings[key] for key in ("local_files_only", "revision") if key in settings}
    try:
        kind = transformers.AutoConfig.from_pretrained(place, **source).model_type
        if kind != "llava":
            raise InputError(
                f"{place}: is a {kind} model, expected llava; name a LLaVA 1.5 model in transformers' form"
            )
        model, report = transformers.LlavaForConditionalGeneration.from_pretrained(
            place, dtype=dtype, output_loading_info=True, **settings
        )
    except _LOADING as error:
        raise _unreadable(place, "model", error, settings) from None
    if missing := sorted(report["missing_keys"]):
        raise InputError(f"{place}: lacks {len(missing)} weights ({', '.join(missing[:3])}, ...); copy the model again")
    return model.eval()


def _unreadable(place: str, what: str, error: Exception, settings: dict[str, Any]) -> InputError:
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    if isinstance(error, torch.OutOfMemoryError):
        return InputError(f"{place}: the captioner does not fit on the device ({reason}); set quantization to 4bit")
    remedy = (
        "copy the whole model there (config, weights, tokenizer, processor, chat template)"
        if "revision" not in settings
        else "check the name and the network, or download the model and name its folder"
    )
    return InputError(f"{place}: the captioner's {what} cannot be loaded ({reason}); {remedy}")
