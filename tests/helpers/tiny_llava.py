"""A LLaVA of a few thousand random parameters, saved as the real one is, for tests that cannot download 14 GB."""

from pathlib import Path

import torch

WORDS = (
    "USER : ASSISTANT please briefly describe the dress shirt toptee image in 2 3 4 5 8 10 words red blue striped plain"
)
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<image>\n' }}{% endif %}{% endfor %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] + ' ' }}{% endif %}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def tiny_tokenizer():
    """Returns a tokenizer that splits at white space; `<s>` comes first, as in LLaVA's."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "<s>", "</s>", "<unk>", "<image>", *dict.fromkeys(WORDS.split())]
    tokenizer = Tokenizer(WordLevel({name: position for position, name in enumerate(names)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=["<image>"],
    )


def tiny_processor(size: int = 16, patch: int = 8):
    """Returns a processor: CLIP's preprocessing at `size` pixels, the tokenizer, a chat template like LLaVA 1.5's."""
    from transformers import CLIPImageProcessor, LlavaProcessor

    pixels = CLIPImageProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
    return LlavaProcessor(
        image_processor=pixels,
        tokenizer=tiny_tokenizer(),
        patch_size=patch,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )


def tiny_model(vocabulary: int, size: int = 16, patch: int = 8, width: int = 32, layers: int = 2):
    """Returns a model with random weights (seed 0), scaled up so that the captions of two images differ."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    sizes = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": layers}
    vision = CLIPVisionConfig(**sizes, num_attention_heads=2, image_size=size, patch_size=patch)
    text = LlamaConfig(
        **sizes,
        num_attention_heads=2,
        vocab_size=vocabulary,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        initializer_range=0.5,
    )
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=text, image_token_index=4))
    with torch.no_grad():
        model.model.multi_modal_projector.linear_2.weight.mul_(50)
    model.generation_config.update(bos_token_id=1, eos_token_id=2, pad_token_id=0)
    return model.eval()


def save_tiny_llava(folder: Path, **sizes: int) -> Path:
    """Writes model and processor to `folder`, which loads without a network connection."""
    tower = {name: sizes[name] for name in ("size", "patch") if name in sizes}
    processor = tiny_processor(**tower)
    processor.save_pretrained(folder)
    tiny_model(len(processor.tokenizer), **sizes).save_pretrained(folder)
    return folder
