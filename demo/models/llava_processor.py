"""The processor of the small LLaVA: a tokenizer of whole words, CLIP's image preprocessing, a chat template."""

from __future__ import annotations

from typing import Any

from demo.draw.attributes import Garment, Scene
from demo.draw.captions import GARMENT_TEMPLATES, PROMPT, SCENE_TEMPLATES, WORD_COUNTS, plural

SPECIAL = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
IMAGE_TOKEN = "<image>"  # noqa: S105 - a word of the tokenizer
ROLES = {"user": "USER:", "assistant": "ASSISTANT:"}
# The form of LLaVA 1.5: the image comes before the words, and all turns are on one line.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{ message['role'].upper() }}: {% for part in message['content'] if part['type'] == 'image' %}<image>
{% endfor %}{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }} {% endfor %}
{%- endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"""


def vocabulary() -> list[str]:
    """Returns the special tokens, then every word of prompts and captions, in a fixed order."""
    words = [*SPECIAL.values(), IMAGE_TOKEN, *ROLES.values(), *PROMPT.split(), "image"]
    words += [str(count) for count in WORD_COUNTS]
    for template in (*GARMENT_TEMPLATES.values(), *SCENE_TEMPLATES.values()):
        words += [word for word in template.split() if "{" not in word]
    for kind in (Garment, Scene):
        words += [value for values in kind.VALUES.values() for value in values]
    words += [plural(shape, "two") for shape in Scene.VALUES["shape"]]
    return [word for word in dict.fromkeys(words) if "{" not in word]


def make_tokenizer() -> Any:
    """Returns a fast tokenizer that splits at white space and starts each text with `<s>`."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    rows = {word: row for row, word in enumerate(vocabulary())}
    begin = SPECIAL["bos_token"]
    tokenizer = Tokenizer(WordLevel(rows, unk_token=SPECIAL["unk_token"]))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(single=f"{begin} $A", special_tokens=[(begin, rows[begin])])
    make: Any = PreTrainedTokenizerFast
    return make(tokenizer_object=tokenizer, **SPECIAL, additional_special_tokens=[IMAGE_TOKEN], padding_side="left")


def make_processor(image_size: int, patch_size: int) -> Any:
    """Returns the processor for a CLIP tower of these sizes. The language model does not receive its class token."""
    from transformers import CLIPImageProcessor, LlavaProcessor

    pixels = CLIPImageProcessor(
        size={"shortest_edge": image_size}, crop_size={"height": image_size, "width": image_size}
    )
    make: Any = LlavaProcessor
    return make(
        image_processor=pixels,
        tokenizer=make_tokenizer(),
        patch_size=patch_size,
        vision_feature_select_strategy="default",
        image_token=IMAGE_TOKEN,
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )
