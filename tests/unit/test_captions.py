"""Captions: nothing is made twice, nothing is lost to a kill, and the published form is read as published."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from spn4cir.datasets import json_records
from spn4cir.errors import InputError
from spn4cir.json_files import write_json
from spn4cir.positives import finished_work
from spn4cir.positives.caption_files import check_answered, count_empty, read_captions, write_captions
from spn4cir.positives.caption_store import CaptionStore
from spn4cir.positives.captions import caption_key, make_captions
from spn4cir.types import CaptionedImage
from tests.helpers.clusters import OneProcessCluster
from tests.helpers.memory import peak_bytes_each

PROMPT = "please briefly describe the {noun} in {words} words"


class FakeCaptioner:
    """Describes an image by its red value, records its inputs, and stops at a chosen call."""

    def __init__(self, dies_at: int | None = None, answer: str = "{prompt} {red}") -> None:
        self.batches: list[list[str]] = []
        self.dies_at = dies_at
        self.answer = answer

    def prepare(self, images, prompts):
        assert {image.mode for image in images} == {"RGB"}
        return [(prompt, image.getpixel((0, 0))[0]) for image, prompt in zip(images, prompts, strict=True)]

    def generate(self, inputs, max_new_tokens):
        if self.dies_at == len(self.batches):
            raise KeyboardInterrupt
        self.batches.append([prompt for prompt, _ in inputs])
        return [self.answer.format(prompt=prompt, red=red) for prompt, red in inputs]

    def load(self):
        return self


def unloadable():
    raise AssertionError("the model is loaded although no caption is missing")


@pytest.fixture
def images(tmp_path) -> list[CaptionedImage]:
    """Ten images, dresses and shirts in turn."""
    for i in range(10):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(tmp_path / f"{i}.png")
    return [CaptionedImage(f"name{i}", tmp_path / f"{i}.png", ("dress", "shirt")[i % 2]) for i in range(10)]


def make(images, captioner, store: Path, words: int = 5, batch_size: int = 2, workers: int = 2):
    load = captioner.load if isinstance(captioner, FakeCaptioner) else captioner
    return make_captions(
        images, words, PROMPT, load, CaptionStore(store), batch_size, max_new_tokens=8, workers=workers
    )


def test_records_are_in_image_order_and_in_published_form(images, tmp_path):
    records = make(images, FakeCaptioner(), tmp_path / "store")
    expected = PROMPT.format(noun="shirt", words=5) + " 3"
    assert records[3] == {"image_id": "name3", "caption": expected, "image_path": str(images[3].path)}
    assert [record["image_id"] for record in records] == [image.name for image in images]


@pytest.mark.parametrize("parts", [1, 2, 5, 10])
def test_the_parts_of_a_pool_read_the_store_once(images, tmp_path, monkeypatch, parts):
    whole = make(images, FakeCaptioner(), tmp_path / "store")
    lines: list[int] = []
    record = finished_work._record
    monkeypatch.setattr(finished_work, "_record", lambda *line: lines.append(line[1]) or record(*line))
    store, each = CaptionStore(tmp_path / "store"), len(images) // parts
    pieces = (images[start : start + each] for start in range(0, len(images), each))
    found = [record for piece in pieces for record in make_captions(piece, 5, PROMPT, unloadable, store, 2, 8, 1)]
    assert found == whole
    assert len(lines) == len(images)


def test_a_batch_asks_one_prompt_only_so_that_nothing_is_padded(images, tmp_path):
    captioner = FakeCaptioner()
    make(images, captioner, tmp_path / "store", batch_size=4)
    assert [len(batch) for batch in captioner.batches] == [4, 1, 4, 1]
    assert all(len(set(batch)) == 1 for batch in captioner.batches)


def test_a_killed_run_loses_one_batch_and_ends_with_the_same_captions(images, tmp_path):
    whole = make(images, FakeCaptioner(), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        make(images, FakeCaptioner(dies_at=3), tmp_path / "store")
    resumed = FakeCaptioner()
    assert make(images, resumed, tmp_path / "store") == whole
    assert len(resumed.batches) == 6 - 3


@pytest.mark.parametrize("cut", [1, 20])
def test_a_line_torn_by_a_kill_is_made_again_with_its_whole_batch(images, tmp_path, cut):
    whole = make(images, FakeCaptioner(), tmp_path / "store")
    path = tmp_path / "store" / "5.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    resumed = FakeCaptioner()
    assert make(images, resumed, tmp_path / "store") == whole
    assert [len(batch) for batch in resumed.batches] == [1]
    assert make(images, unloadable, tmp_path / "store") == whole


def test_a_line_torn_within_a_batch_repeats_the_batch_unchanged(images, tmp_path):
    """The missing image gets the batch mates of the first run, so rounding cannot differ."""
    whole = make(images, FakeCaptioner(), tmp_path / "store", batch_size=5)
    path = tmp_path / "store" / "5.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    resumed = FakeCaptioner()
    assert make(images, resumed, tmp_path / "store", batch_size=5) == whole
    assert [len(batch) for batch in resumed.batches] == [5]


def test_a_cluster_makes_the_same_captions_in_the_same_batches(images, tmp_path):
    """And continues a run of this machine after the batches that are stored."""
    whole = make(images, FakeCaptioner(), tmp_path / "here")
    cluster = OneProcessCluster()
    assert make(images, FakeCaptioner(), tmp_path / "there", workers=cluster) == whole
    assert [len(batch) for batch in cluster.batches] == [2, 2, 1, 2, 2, 1]
    assert (tmp_path / "here" / "5.jsonl").read_bytes() == (tmp_path / "there" / "5.jsonl").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        make(images, FakeCaptioner(dies_at=4), tmp_path / "store")
    assert make(images, FakeCaptioner(), tmp_path / "store", workers=cluster) == whole
    assert [len(batch) for batch in cluster.batches] == [2, 1]


def test_the_order_in_the_store_does_not_matter(images, tmp_path):
    whole = make(images, FakeCaptioner(), tmp_path / "store")
    path = tmp_path / "store" / "5.jsonl"
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    assert make(images, unloadable, tmp_path / "store") == whole


def test_a_damaged_line_within_the_store_is_refused(images, tmp_path):
    make(images, FakeCaptioner(), tmp_path / "store")
    path = tmp_path / "store" / "5.jsonl"
    path.write_text("{damaged\n" + path.read_text())
    with pytest.raises(InputError, match=r"5\.jsonl: line 1 is damaged; delete the file"):
        make(images, FakeCaptioner(), tmp_path / "store")


def test_the_model_is_not_loaded_when_nothing_is_missing(images, tmp_path):
    whole = make(images, FakeCaptioner(), tmp_path / "store")
    assert make(images, unloadable, tmp_path / "store") == whole
    assert make([], unloadable, tmp_path / "store") == []


def test_another_word_count_is_made_and_the_first_is_kept(images, tmp_path):
    five = make(images, FakeCaptioner(), tmp_path / "store", words=5)
    eight = FakeCaptioner()
    make(images, eight, tmp_path / "store", words=8)
    assert {prompt.split()[-2] for batch in eight.batches for prompt in batch} == {"8"}
    assert make(images, unloadable, tmp_path / "store", words=5) == five


def test_more_images_cost_only_their_own_batches(images, tmp_path):
    make(images[:4], FakeCaptioner(), tmp_path / "store")
    more = FakeCaptioner()
    make(images[:8], more, tmp_path / "store")
    assert [len(batch) for batch in more.batches] == [2, 2]


def test_changed_image_content_is_captioned_again(images, tmp_path):
    make(images, FakeCaptioner(), tmp_path / "store")
    Image.new("RGB", (4, 4), (77, 0, 0)).save(images[3].path)
    assert make(images, FakeCaptioner(), tmp_path / "store")[3]["caption"].endswith(" 77")


def test_a_name_under_two_nouns_gets_a_caption_for_each(images, tmp_path):
    both = [images[0], CaptionedImage(images[0].name, images[0].path, "toptee")]
    first, second = make(both, FakeCaptioner(), tmp_path / "store")
    assert ("dress" in first["caption"], "toptee" in second["caption"]) == (True, True)
    assert make(both, unloadable, tmp_path / "store") == [first, second]


def test_images_of_any_mode_reach_the_model_as_rgb(tmp_path):
    for mode in ("L", "P", "RGBA", "CMYK"):
        Image.new(mode, (4, 4)).save(tmp_path / f"{mode}.tif")
    images = [CaptionedImage(mode, tmp_path / f"{mode}.tif", "image") for mode in ("L", "P", "RGBA", "CMYK")]
    assert len(make(images, FakeCaptioner(), tmp_path / "store", workers=0)) == 4


class Silent(FakeCaptioner):
    """Answers nothing about images of some red values."""

    def __init__(self, silent: set[int], **options) -> None:
        super().__init__(**options)
        self.silent = silent

    def generate(self, inputs, max_new_tokens):
        answers = super().generate(inputs, max_new_tokens)
        return [" \n" if red in self.silent else answer for (_, red), answer in zip(inputs, answers, strict=True)]


def test_an_empty_answer_is_an_empty_caption_and_the_rest_is_as_without_it(images, tmp_path):
    whole = make(images, FakeCaptioner(), tmp_path / "whole")
    records = make(images, Silent({3}), tmp_path / "store")
    assert records[3] == {"image_id": "name3", "caption": "", "image_path": str(images[3].path)}
    assert records[:3] + records[4:] == whole[:3] + whole[4:]


def test_an_empty_answer_is_not_asked_for_again_and_a_killed_run_ends_as_an_uninterrupted_one(images, tmp_path):
    whole = make(images, Silent({3}), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        make(images, Silent({3}, dies_at=4), tmp_path / "store")
    resumed = Silent({3})
    assert make(images, resumed, tmp_path / "store") == whole
    assert len(resumed.batches) == 6 - 4
    assert make(images, unloadable, tmp_path / "store") == whole


def test_a_captioner_that_answers_nothing_at_all_ends_the_run_early(tmp_path):
    Image.new("RGB", (4, 4), (1, 0, 0)).save(tmp_path / "one.png")
    many = [CaptionedImage(str(i), tmp_path / "one.png", "image") for i in range(120)]
    silent = Silent({1})
    with pytest.raises(InputError, match=r"100 of 100 captions are empty; check the model \(models\.") as raised:
        make(many, silent, tmp_path / "store", batch_size=10)
    assert "\n" not in str(raised.value)
    assert len(silent.batches) <= 11
    Image.new("RGB", (4, 4), (2, 0, 0)).save(tmp_path / "two.png")
    answered = [CaptionedImage("first", tmp_path / "two.png", "image"), *many]
    assert sum(not record["caption"] for record in make(answered, silent, tmp_path / "store")) == 120


def test_captions_that_are_all_empty_are_refused():
    check_answered(3, 2)
    check_answered(0, 0)
    with pytest.raises(InputError, match="3 of 3 captions are empty"):
        check_answered(3, 3)


def test_empty_captions_are_counted_and_the_first_are_named(capsys):
    assert count_empty({"a": "red", "b": ""}, "captions.json") == 1
    assert capsys.readouterr().err == (
        "captions.json: 1 of 2 images have an empty caption (b); no triplet is made from them\n"
    )
    count_empty(dict.fromkeys("abcde", ""), "captions.json")
    assert "5 of 5 images have an empty caption (a, b, c and 2 more)" in capsys.readouterr().err
    assert count_empty({"a": "red"}, "captions.json") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("absent", [True, False])
def test_a_broken_image_is_refused_and_the_batches_before_it_are_kept(images, tmp_path, absent):
    if absent:
        images[9].path.unlink()
    else:
        images[9].path.write_bytes(images[9].path.read_bytes()[:40])
    with pytest.raises(InputError, match=r"9\.png: (no such image|cannot be decoded)"):
        make(images, FakeCaptioner(), tmp_path / "store")
    assert len((tmp_path / "store" / "5.jsonl").read_text().splitlines()) == 9


def test_an_image_gone_after_its_caption_was_made_is_refused(images, tmp_path):
    make(images, FakeCaptioner(), tmp_path / "store")
    images[0].path.unlink()
    with pytest.raises(InputError, match=r"0\.png: no such image"):
        make(images, FakeCaptioner(), tmp_path / "store")


def test_what_is_written_is_read_back(images, tmp_path):
    records = make(images, FakeCaptioner(), tmp_path / "store")
    write_captions(records, tmp_path / "out" / "captions.json")
    assert json.loads((tmp_path / "out" / "captions.json").read_text()) == records
    assert read_captions(tmp_path / "out" / "captions.json") == {r["image_id"]: r["caption"] for r in records}


def test_published_files_load(tmp_path):
    """Paths of another machine, further keys, white space, and a name under two nouns (the last counts)."""
    path = tmp_path / "fashioniq_it_llava_5.json"
    path.write_text(
        json.dumps(
            [
                {"image_id": "B1", "caption": "A red shirt.\n", "image_path": "/root_path/images/B1.png"},
                {"image_id": "B2", "caption": "Rote Blüten", "image_path": "/root_path/images/B2.png", "score": 1},
                {"image_id": "B1", "caption": " A red top.", "image_path": "/root_path/images/B1.png"},
            ]
        )
    )
    assert read_captions(path) == {"B1": "A red top.", "B2": "Rote Blüten"}


def test_a_blank_caption_of_a_published_file_is_empty_and_yields_to_another_of_the_image(tmp_path):
    path = tmp_path / "captions.json"
    captions = [("B1", " \n"), ("B2", "red"), ("B3", ""), ("B3", "blue"), ("B2", " ")]
    path.write_text(json.dumps([{"image_id": name, "caption": caption} for name, caption in captions]))
    assert read_captions(path) == {"B1": "", "B2": "red", "B3": "blue"}


def test_reading_takes_little_more_memory_than_the_captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_records, "_BLOCK", 1 << 14)

    def write_and_read(count: int) -> None:
        path = tmp_path / f"{count}.json"
        if not path.exists():
            records = (
                {
                    "image_id": f"{number:09d}",
                    "caption": f"a red shirt {number}",
                    "image_path": f"data/{number:09d}.jpg",
                }
                for number in range(count)
            )
            write_json(path, records)
        assert len(read_captions(path)) == count

    assert peak_bytes_each(write_and_read) < 330


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"B1": "red"}, "contains a dict, expected a list"),
        ([{"image_id": "B1", "caption": "red"}, {"image_id": "B2"}], "record 1 has no caption"),
        ([{"image_id": "B1", "caption": None}], "record 0 has no caption"),
        ([{"image_id": " ", "caption": "red"}], "record 0 has no image_id"),
        ([{"caption": "red"}], "record 0 has no image_id"),
        ([{"image_id": "B1", "caption": 5}], "record 0 has no caption"),
        (["B1"], "record 0 has no image_id"),
    ],
)
def test_a_malformed_published_file_is_refused(tmp_path, content, message):
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"captions\.json: {message}"):
        read_captions(path)


def test_the_key_follows_all_that_determines_captions(tmp_path):
    (tmp_path / "model").mkdir()
    weights = tmp_path / "model" / "weights"
    weights.write_text("one")
    setting = {
        "model": str(tmp_path / "model"),
        "revision": None,
        "prompt": PROMPT,
        "dtype": torch.float32,
        "quantization": "none",
        "max_new_tokens": 16,
    }
    changes = [
        {"prompt": "{words}"},
        {"dtype": torch.float16},
        {"quantization": "4bit"},
        {"max_new_tokens": 8},
        {"model": "owner/name"},
        {"model": "owner/name", "revision": "v2"},
    ]
    keys = [json.dumps(caption_key(**{**setting, **change})) for change in [{}, *changes]]
    weights.write_text("two")
    keys.append(json.dumps(caption_key(**setting)))
    assert len(set(keys)) == len(changes) + 2


def test_the_key_does_not_depend_on_the_path_of_a_model_folder(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text("same")
    first, second = (caption_key(str(tmp_path / n), None, PROMPT, torch.float32, "none", 8) for n in ("a", "b"))
    assert first == second
