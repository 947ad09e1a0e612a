"""A real LLaVA, tiny and random, saved and loaded as the published ones are."""

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub.errors import OfflineModeIsEnabled
from PIL import Image

from spn4cir.errors import InputError
from spn4cir.positives.caption_store import CaptionStore
from spn4cir.positives.captions import make_captions
from spn4cir.positives.llava import LlavaCaptioner, load_captioner, quantization_options
from spn4cir.types import CaptionedImage
from tests.helpers.tiny_llava import save_tiny_llava

CPU = torch.device("cpu")
LONG = "please briefly describe the dress in 5 words"
SHORT = "describe the shirt"


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Networks this small gain nothing from threads, and lose much when other tests use the same cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    return save_tiny_llava(tmp_path_factory.mktemp("captioner"))


@pytest.fixture(scope="module")
def captioner(saved) -> LlavaCaptioner:
    return load_captioner(str(saved), None, torch.float32, CPU, "none")


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def drawn_images(count: int) -> list[Image.Image]:
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)) for _ in range(count)]


def test_the_prompt_is_sent_as_a_user_turn(captioner):
    assert captioner.user_turn(LONG) == f"USER: <image>\n{LONG} ASSISTANT:"


def test_inputs_hold_one_start_token_and_an_image_token_for_every_patch(captioner):
    inputs = captioner.prepare(drawn_images(1), [LONG])
    tokens = inputs["input_ids"][0].tolist()
    assert tokens.count(captioner.tokenizer.bos_token_id) == 1
    assert tokens.count(captioner.processor.image_token_id) == (16 // 8) ** 2
    assert inputs["pixel_values"].shape == (1, 3, 16, 16)


def test_a_template_that_writes_the_start_token_gets_no_second_one(folder):
    template = folder / "chat_template.jinja"
    template.write_text("{{ bos_token }}" + template.read_text())
    captioner = load_captioner(str(folder), None, torch.float32, CPU, "none")
    tokens = captioner.prepare(drawn_images(1), [LONG])["input_ids"][0].tolist()
    assert tokens.count(captioner.tokenizer.bos_token_id) == 1


def test_a_batch_of_unequal_prompts_gives_the_captions_of_each_alone(captioner):
    images, prompts = drawn_images(6), [LONG, SHORT] * 3
    inputs = captioner.prepare(images, prompts)
    assert inputs["attention_mask"][1, 0] == 0, "shorter prompts are padded on the left"
    batch = captioner.generate(inputs, 12)
    alone = [captioner.generate(captioner.prepare([i], [p]), 12)[0] for i, p in zip(images, prompts, strict=True)]
    assert batch == alone
    assert len(set(batch)) > 3, "the captions depend on the images"


def test_only_new_words_are_returned_and_no_special_tokens(captioner, monkeypatch):
    monkeypatch.setattr(captioner.model.generation_config, "eos_token_id", None)
    for caption in captioner.generate(captioner.prepare(drawn_images(4), [LONG] * 4), 5):
        assert caption == caption.strip() != ""
        assert len(caption.split()) <= 5
        assert "<" not in caption


def test_decoding_is_greedy(captioner):
    """Each next word is the most likely one of a plain forward pass over all words before it."""
    inputs = captioner.prepare(drawn_images(1), [LONG])
    expected = []
    ids = inputs["input_ids"]
    for _ in range(4):
        with torch.no_grad():
            logits = captioner.model(
                input_ids=ids, pixel_values=inputs["pixel_values"], attention_mask=torch.ones_like(ids)
            ).logits
        ids = torch.cat([ids, logits[:, -1:].argmax(-1)], dim=1)
        expected.append(int(ids[0, -1]))
    assert captioner.generate(inputs, 4) == [captioner.tokenizer.decode(expected, skip_special_tokens=True)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_takes_the_pixels_along(saved, dtype):
    captioner = load_captioner(str(saved), None, dtype, CPU, "none")
    assert {p.dtype for p in captioner.model.parameters()} == {dtype}
    assert len(captioner.generate(captioner.prepare(drawn_images(2), [LONG] * 2), 4)) == 2


def test_a_resumed_run_with_the_real_model_gives_the_same_captions(captioner, tmp_path, monkeypatch):
    monkeypatch.setattr(captioner.model.generation_config, "eos_token_id", None)
    images = []
    for i, image in enumerate(drawn_images(7)):
        image.save(tmp_path / f"{i}.png")
        images.append(CaptionedImage(str(i), tmp_path / f"{i}.png", ("dress", "shirt")[i % 2]))

    def make(store: str):
        prompt = "describe the {noun} in {words} words"
        return make_captions(images, 5, prompt, lambda: captioner, CaptionStore(tmp_path / store), 2, 8, 1)

    whole = make("whole")
    generate, calls = captioner.generate, []

    def dies(inputs, max_new_tokens):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return generate(inputs, max_new_tokens)

    with monkeypatch.context() as patch:
        patch.setattr(captioner, "generate", dies)
        with pytest.raises(KeyboardInterrupt):
            make("killed")
    assert make("killed") == whole


def edit(path: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def without(*names: str) -> Callable[[Path], None]:
    """Takes values out of the processor's settings."""
    return lambda folder: edit(folder / "processor_config.json", lambda c: [c.pop(name) for name in names])


def with_null(folder: Path) -> None:
    edit(folder / "processor_config.json", lambda c: c.update(patch_size=None, vision_feature_select_strategy=None))


def earlier(template: str, names_processor: bool = False) -> Callable[[Path], None]:
    """The layout before `processor_config.json` held the values, and the chat template a file of its own."""

    def change(folder: Path) -> None:
        settings = json.loads((folder / "processor_config.json").read_text())["image_processor"]
        (folder / "preprocessor_config.json").write_text(json.dumps({**settings, "processor_class": "LlavaProcessor"}))
        (folder / "processor_config.json").unlink()
        if names_processor:
            (folder / "processor_config.json").write_text(json.dumps({"processor_class": "LlavaProcessor"}))
        written = (folder / "chat_template.jinja").read_text()
        (folder / "chat_template.jinja").unlink()
        if template == "chat_template.json":
            (folder / template).write_text(json.dumps({"chat_template": written}))
        else:
            edit(folder / template, lambda c: c.update(chat_template=written))

    return change


def plain_template(folder: Path) -> None:
    """A template that joins a text, where today's go through its parts."""
    template = (
        "{% for message in messages %}{{ message['role'].upper() + ': ' + message['content'] + ' ' }}{% endfor %}"
    )
    (folder / "chat_template.jinja").write_text(
        template + "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
    )


PATCH = "patch_size 8"
STRATEGY = "vision_feature_select_strategy default"
EXTRA = "num_additional_image_tokens 1"


@pytest.mark.parametrize(
    ("change", "filled"),
    [
        (without("patch_size"), [PATCH]),
        (without("num_additional_image_tokens"), [EXTRA]),
        (without("vision_feature_select_strategy"), [STRATEGY]),
        (with_null, [PATCH, STRATEGY]),
        (
            without("patch_size", "num_additional_image_tokens", "vision_feature_select_strategy"),
            [PATCH, STRATEGY, EXTRA],
        ),
        (earlier("tokenizer_config.json"), [PATCH, STRATEGY, EXTRA]),
        (earlier("tokenizer_config.json", names_processor=True), [PATCH, STRATEGY, EXTRA]),
        (earlier("chat_template.json"), [PATCH, STRATEGY, EXTRA]),
        (plain_template, []),
    ],
)
def test_a_folder_of_an_earlier_transformers_gives_the_captions_of_a_full_one(
    captioner, folder, capsys, change, filled
):
    """Values that its processor lacks are taken from the model's configuration, and are reported."""
    images, prompts = drawn_images(4), [LONG] * 4
    expected = captioner.generate(captioner.prepare(images, prompts), 8)
    change(folder)
    capsys.readouterr()
    loaded = load_captioner(str(folder), None, torch.float32, CPU, "none")
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith(str(folder))]
    line = f"{folder}: its processor lacks values; taken from the model: {', '.join(filled)}"
    assert said == ([line] if filled else [])
    assert loaded.generate(loaded.prepare(images, prompts), 8) == expected


def test_the_strategy_and_the_class_token_are_those_of_the_model(folder):
    """With the strategy `full` the class token is a feature beside the 4 patches."""
    edit(folder / "config.json", lambda c: c.update(vision_feature_select_strategy="full"))
    without("num_additional_image_tokens", "vision_feature_select_strategy")(folder)
    loaded = load_captioner(str(folder), None, torch.float32, CPU, "none")
    inputs = loaded.prepare(drawn_images(1), [LONG])
    assert inputs["input_ids"][0].tolist().count(loaded.processor.image_token_id) == 5
    assert len(loaded.generate(inputs, 4)) == 1


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("USER: hello", "it writes 'USER: hello'"),
        ("{{ raise_exception('no images here') }}", "no images here"),
        ("<image> <image> {{ messages[0]['content'] }}", "it writes"),
    ],
)
def test_a_chat_template_without_a_place_for_the_image_is_refused_before_the_work(folder, template, reason):
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(
        InputError, match=rf"chat template makes no turn of one image and a prompt \({reason}"
    ) as raised:
        load_captioner(str(folder), None, torch.float32, CPU, "none")
    assert "\n" not in str(raised.value)


def test_a_processor_of_another_model_is_one_line(folder):
    """Patches of 4 pixels, where the model has 8: four times the image tokens."""
    edit(folder / "processor_config.json", lambda c: c.update(patch_size=4))
    loaded = load_captioner(str(folder), None, torch.float32, CPU, "none")
    with pytest.raises(
        InputError, match=r"the model cannot generate \(.*do not match.*; let model and processor"
    ) as raised:
        loaded.generate(loaded.prepare(drawn_images(1), [LONG]), 4)
    assert "\n" not in str(raised.value)


def test_a_processor_that_fails_is_one_line(captioner, monkeypatch):
    class Fails:
        image_token = "<image>"
        apply_chat_template = captioner.processor.apply_chat_template

        def __call__(self, **_):
            raise TypeError("unsupported operand\nand more")

    monkeypatch.setattr(captioner, "processor", Fails())
    with pytest.raises(InputError, match=r"cannot prepare 2 images \(unsupported operand\); let model and processor"):
        captioner.prepare(drawn_images(2), [LONG] * 2)


def test_a_missing_folder_is_not_looked_for_on_the_hub(tmp_path):
    with pytest.raises(InputError, match=r"nowhere: no folder with a captioner and no hub name.*put the model's files"):
        load_captioner(str(tmp_path / "nowhere"), None, torch.float32, CPU, "none")


@pytest.mark.parametrize("refusal", [OSError("no route"), OfflineModeIsEnabled("offline")])
def test_an_unreachable_hub_is_one_line_with_a_remedy_and_no_retries(monkeypatch, refusal):
    def refuse(*_, **__):
        raise refusal

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", refuse)
    with pytest.raises(
        InputError, match=r"owner/model: .*cannot be loaded \(.*check the name and the network"
    ) as raised:
        load_captioner("owner/model", None, torch.float32, CPU, "none")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("processor_config.json", "processor"),
        ("tokenizer.json", "processor cannot be loaded"),
        ("config.json", "cannot be loaded"),
        ("model.safetensors", "model cannot be loaded"),
        ("chat_template.jinja", "its processor has no chat template; add the model's chat_template.jinja"),
    ],
)
def test_a_folder_that_lacks_a_file_is_refused(folder, name, message):
    (folder / name).unlink()
    with pytest.raises(InputError, match=message) as raised:
        load_captioner(str(folder), None, torch.float32, CPU, "none")
    assert str(raised.value).startswith(str(folder))
    assert "\n" not in str(raised.value)


def test_truncated_weights_are_refused(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(InputError, match="the captioner's model cannot be loaded"):
        load_captioner(str(folder), None, torch.float32, CPU, "none")


def test_missing_weights_are_listed_and_not_drawn_at_random(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights[next(name for name in weights if "multi_modal_projector" in name)]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lacks 1 weights \(.*multi_modal_projector"):
        load_captioner(str(folder), None, torch.float32, CPU, "none")


def test_a_model_of_another_kind_is_refused(folder):
    from transformers import CLIPVisionConfig

    CLIPVisionConfig().save_pretrained(folder)
    with pytest.raises(InputError, match="is a clip_vision_model model, expected llava"):
        load_captioner(str(folder), None, torch.float32, CPU, "none")


def test_quantization_needs_cuda(saved):
    with pytest.raises(InputError, match="quantization 4bit needs a CUDA device, got cpu; set it to none"):
        load_captioner(str(saved), None, torch.float16, CPU, "4bit")


def test_quantization_needs_bitsandbytes(saved, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="quantization 8bit needs bitsandbytes; pip install bitsandbytes"):
        load_captioner(str(saved), None, torch.float16, torch.device("cuda"), "8bit")


def test_quantization_is_handed_to_transformers(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    options = quantization_options("8bit", torch.float16, torch.device("cuda"))
    assert options["quantization_config"].load_in_8bit
    assert quantization_options("none", torch.float16, CPU) == {}


def test_a_model_larger_than_the_device_is_one_line_with_a_remedy(saved, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.\nDetails")

    monkeypatch.setattr("transformers.LlavaForConditionalGeneration.from_pretrained", full)
    with pytest.raises(
        InputError, match=r"does not fit on the device \(CUDA out of memory\.\); set quantization to 4bit"
    ):
        load_captioner(str(saved), None, torch.float32, CPU, "none")


def test_too_little_memory_is_one_line_with_a_remedy(captioner, monkeypatch):
    def full(**_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(captioner.model, "generate", full)
    with pytest.raises(
        InputError, match=r"a batch of 2 images does not fit on cpu; lower caption\.<dataset>\.batch_size"
    ):
        captioner.generate(captioner.prepare(drawn_images(2), [LONG] * 2), 4)
