"""LLaVA through transformers: a captioner that describes a batch of images, with one prompt per image."""

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image

from spn4cir.errors import InputError, first_line
from spn4cir.hub.variables import check_hub_variables
from spn4cir.positives.llava_files import complete_processor, load_model, load_processor, transformers

Quantization = Literal["none", "8bit", "4bit"]
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_REMEDY = "let model and processor come from one folder (models.<dataset>.captioner), as the model's authors saved it"


class LlavaCaptioner:
    """A LLaVA model with its processor, for batches of any size.

    The chat template, the preprocessing and the number of image tokens are those of the saved processor; see
    `complete_processor`.
    """

    def __init__(self, model: Any, processor: Any, device: torch.device, dtype: torch.dtype) -> None:
        self.model = model
        self.processor = processor
        self.device = device
        self.dtype = dtype
        self.tokenizer = processor.tokenizer
        self.tokenizer.padding_side = "left"  # generation continues from the last position
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token

    def prepare(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Any:
        """Returns the model's inputs, on the CPU; may run in another thread than `generate`.

        Args:
            images: RGB images, one per caption.
            prompts: one prompt per image, sent as a user turn.

        Raises:
            InputError: the processor fails, for example because it belongs to another model.
        """
        turns = {prompt: self.user_turn(prompt) for prompt in dict.fromkeys(prompts)}
        bos = self.tokenizer.bos_token
        template_has_bos = bool(bos) and all(turn.startswith(bos) for turn in turns.values())
        try:
            return self.processor(
                images=list(images),
                text=[turns[prompt] for prompt in prompts],
                padding=True,
                add_special_tokens=not template_has_bos,
                return_tensors="pt",
            )
        except Exception as error:  # of the library's many steps
            raise InputError(
                f"captioner: its processor cannot prepare {len(images)} images ({first_line(error)}); {_REMEDY}"
            ) from None

    def user_turn(self, prompt: str) -> str:
        """Returns the text that the model reads: the chat template around one image and the prompt.

        Current templates take a list of parts; templates of earlier versions take a text in which the image is a token.

        Raises InputError if the template makes no turn of one image and the prompt.
        """
        image = self.processor.image_token
        reason = ""
        for content in ([{"type": "image"}, {"type": "text", "text": prompt}], f"{image}\n{prompt}"):
            turns = [{"role": "user", "content": content}]
            try:
                turn = str(self.processor.apply_chat_template(turns, add_generation_prompt=True))
            except Exception as error:  # a template may raise any error
                reason = reason or first_line(error)
                continue
            if turn.count(image) == 1 and prompt.strip() in turn:
                return turn
            reason = reason or f"it writes {turn[:80]!r}"
        raise InputError(f"captioner: its chat template makes no turn of one image and a prompt ({reason}); {_REMEDY}")

    @torch.inference_mode()
    def generate(self, inputs: Any, max_new_tokens: int) -> list[str]:
        """Returns the captions for the result of `prepare`.

        Every step takes the most likely token; the original code samples with temperature 0.01. Raises InputError if
        the batch does not fit into the device's memory, or the processor does not fit the model.
        """
        length = inputs["input_ids"].shape[1]
        try:
            tokens = self.model.generate(
                **inputs.to(device=self.device, dtype=self.dtype),  # the token ids stay integers
                max_new_tokens=max_new_tokens,
                do_sample=False,
                num_beams=1,
                use_cache=True,
                pad_token_id=self.tokenizer.pad_token_id,
            )
            captions = self.processor.batch_decode(tokens[:, length:], skip_special_tokens=True)
        except torch.OutOfMemoryError:
            raise InputError(
                f"captioner: a batch of {len(inputs['input_ids'])} images does not fit on {self.device}; "
                "lower caption.<dataset>.batch_size, or set quantization to 4bit"
            ) from None
        except Exception as error:  # of the library's many steps
            raise InputError(f"captioner: the model cannot generate ({first_line(error)}); {_REMEDY}") from None
        return [caption.strip() for caption in captions]


def load_captioner(
    name_or_folder: str, revision: str | None, dtype: torch.dtype, device: torch.device, quantization: Quantization
) -> LlavaCaptioner:
    """Loads a captioner from the hub or from a folder that `save_pretrained` wrote.

    Args:
        name_or_folder: a hub name such as `llava-hf/llava-1.5-7b-hf`, or a folder, which is read without the network.
        revision: branch, tag or commit of the hub repository; None selects its main branch.
        dtype: number type of the weights and of the pixels.
        device: device of the model.
        quantization: `8bit` and `4bit` need bitsandbytes and a CUDA device.

    Raises:
        InputError: the model cannot be loaded, is not a LLaVA, or lacks weights, its processor or its chat template.
    """
    options = quantization_options(quantization, dtype, device)
    if is_folder(name_or_folder):
        settings: dict[str, Any] = {"local_files_only": True}
    else:
        settings = {"local_files_only": not _hub_answers(name_or_folder, revision), "revision": revision or "main"}
    processor = load_processor(name_or_folder, settings)
    model = load_model(name_or_folder, dtype, {**settings, **options, "device_map": device})
    complete_processor(processor, model, name_or_folder)
    captioner = LlavaCaptioner(model, processor, device, dtype)
    captioner.user_turn("describe the image")  # refuses an unusable template before the work
    return captioner


def is_folder(name_or_folder: str) -> bool:
    """Returns whether a model is a folder, rather than a hub name.

    Raises InputError if it is neither, because transformers would ask the hub for a misspelt folder.
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
    """Returns whether the hub can be reached; without this check, transformers retries each file for half a minute."""
    check_hub_variables()
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().model_info(name, revision=revision, timeout=10)
    except HfHubHTTPError:
        return True  # it answers, and loading reports its refusal
    except Exception:  # no route, a proxy's refusal, offline mode: only a copy in the cache can serve
        return False
    return True


def quantization_options(quantization: Quantization, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Returns the arguments of `from_pretrained` that quantise. Raises InputError if bitsandbytes or CUDA is absent."""
    if quantization == "none":
        return {}
    if device.type != "cuda":
        raise InputError(f"captioner: quantization {quantization} needs a CUDA device, got {device}; set it to none")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InputError(
            f"captioner: quantization {quantization} needs bitsandbytes; pip install bitsandbytes, or set it to none"
        )
    config = transformers().BitsAndBytesConfig
    if quantization == "8bit":
        return {"quantization_config": config(load_in_8bit=True)}
    return {"quantization_config": config(load_in_4bit=True, bnb_4bit_compute_dtype=dtype)}
