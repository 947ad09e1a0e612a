"""The BERT tokenizer: ids of bert-base-uncased, sources of vocabularies, and errors if there is none."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from spn4cir.composers.bert_tokenizer import BertWords, folder_vocabulary
from spn4cir.composers.protocol import Options
from spn4cir.errors import InputError
from tests.helpers.words import WORDS, bert_folder, write_vocabulary

BLIP = ("[DEC]", "[ENC]")


def tiny(added: tuple[str, ...] = BLIP, **options: object) -> BertWords:
    return BertWords(Options(vocabulary=WORDS, **options), added, len(WORDS) + len(added), "a.pt")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def bert() -> BertWords:
    return BertWords(Options(tokenizer=str(bert_folder())), BLIP, 30524, "a.pt")


def test_known_texts_have_the_ids_of_bert_base_uncased(bert: BertWords) -> None:
    """Lower case, accents, punctuation, pieces of words, unknown signs, and the special tokens after the words."""
    tokens = bert.encode(["Hello, WORLD!", "Café embeddings", "\u2603 hello"], limit=512)
    assert tokens.ids.tolist() == [
        [101, 7592, 1010, 2088, 999, 102, 0],
        [101, 7668, 7861, 8270, 4667, 2015, 102],
        [101, 100, 7592, 102, 0, 0, 0],
    ]
    assert tokens.mask.tolist() == [[1, 1, 1, 1, 1, 1, 0], [1] * 7, [1, 1, 1, 1, 0, 0, 0]]
    assert (bert.id("[DEC]"), bert.id("[ENC]")) == (30522, 30523)


def test_half_a_surrogate_pair_is_passed_over(bert: BertWords) -> None:
    """A JSON file may hold one; together the halves are one character."""
    assert (
        bert.encode(["hello \ud83d world"], limit=9).ids.tolist() == bert.encode(["hello world"], limit=9).ids.tolist()
    )
    assert bert.count("\ud83d\ude00") == bert.count("\U0001f600")


def test_ids_are_those_of_transformers(bert: BertWords) -> None:
    """The package's own class, its cutting and padding off, on texts with every kind of character."""
    transformers = pytest.importorskip("transformers")
    theirs = transformers.BertTokenizerFast(vocab=str(bert_folder() / "vocab.txt"), do_lower_case=True)
    texts = [
        "is more (floral) - ÜBER-long\tsleeves",
        "红色的 dress",
        "a [SEP] b [MASK]",
        "",
        "x" * 120,
        "don't 3.5€ \x00 end",
    ]
    ours = bert.encode(texts, limit=512)
    expected = theirs(texts, padding=True, return_tensors="pt")
    assert torch.equal(ours.ids, expected["input_ids"])
    assert torch.equal(ours.mask, expected["attention_mask"])


def test_no_settings_of_a_tokenizer_file_apply(tmp_path: Path) -> None:
    """Only the words of a folder with `tokenizer.json` are used, although it truncates and pads to 128."""
    shutil.copy(bert_folder() / "tokenizer.json", tmp_path)
    assert json.loads((tmp_path / "tokenizer.json").read_text())["truncation"]["max_length"] == 128
    words = BertWords(Options(tokenizer=str(tmp_path)), BLIP, 30524, "a.pt")
    assert words.encode(["dress"], limit=512).ids.tolist() == [[101, 4377, 102]]
    assert words.encode(["dress " * 200], limit=512).ids.shape == (1, 202)
    assert words.count("dress " * 200) == 202
    assert words.vocabulary == folder_vocabulary(bert_folder())


def test_a_text_is_cut_before_its_end_token_and_counted_whole() -> None:
    words = tiny()
    cut = words.encode(["red blue green", "red"], limit=4)
    start, end, pad = words.id("[CLS]"), words.id("[SEP]"), words.id("[PAD]")
    assert cut.ids.tolist() == [[start, words.id("red"), words.id("blue"), end], [start, words.id("red"), end, pad]]
    assert [words.count(text) for text in ("", "red", "red blue green", "redo")] == [2, 3, 5, 4]


def test_texts_are_padded_to_the_longest_or_to_the_limit() -> None:
    words = tiny()
    assert words.encode(["red", "red dress"], limit=9).ids.shape == (2, 4)
    filled = words.encode(["red", "red dress"], limit=9, fill=True)
    assert filled.ids.shape == (2, 9)
    assert filled.mask.sum(dim=1).tolist() == [3, 4]


def test_a_vocabulary_comes_from_a_folder_or_a_checkpoint(tmp_path: Path) -> None:
    """The same ids either way; added tokens at its end are not carried on."""
    folder = write_vocabulary(tmp_path / "plain")
    longer = write_vocabulary(tmp_path / "longer", (*WORDS, *BLIP))
    for options in (Options(tokenizer=str(folder)), Options(tokenizer=str(longer)), Options(vocabulary=WORDS)):
        words = BertWords(options, BLIP, len(WORDS) + 2, "a.pt")
        assert words.vocabulary == WORDS
        assert words.id("[ENC]") == len(WORDS) + 1


def test_nothing_is_read_before_it_is_needed(tmp_path: Path) -> None:
    """Building a network and encoding images need no tokenizer."""
    words = BertWords(Options(tokenizer=str(tmp_path)), BLIP, 30524, "a.pt")
    with pytest.raises(InputError):
        words.count("red")


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_without_vocabulary_is_named_with_the_remedies(tmp_path: Path, there: bool) -> None:
    folder = tmp_path if there else tmp_path / "gone"
    found = "neither vocab.txt nor tokenizer.json in it" if there else "no such folder"
    with pytest.raises(InputError) as raised:
        BertWords(Options(tokenizer=str(folder)), BLIP, 30524, "a.pt").count("red")
    assert str(raised.value) == (
        f"{folder}: contains no vocabulary ({found}); name one with --tokenizer FOLDER or models.<dataset>.tokenizer"
    )


def test_a_hub_tokenizer_that_cannot_be_had_names_the_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(repository: str, file: str, revision: str, remedy: str) -> None:
        raise InputError(f"{repository}@{revision}:{file}: no network, {remedy}")

    monkeypatch.setattr("spn4cir.hub.fetch.fetch", refuse)
    with pytest.raises(InputError) as raised:
        BertWords(Options(revision="abc"), BLIP, 30524, "a.pt").count("red")
    assert str(raised.value) == (
        "tokenizer bert-base-uncased: cannot be downloaded: bert-base-uncased@abc:vocab.txt: no network, or download "
        "vocab.txt into a folder by hand; name one with --tokenizer FOLDER or models.<dataset>.tokenizer"
    )


def test_a_vocabulary_of_another_size_is_refused_with_both_numbers() -> None:
    with pytest.raises(InputError) as raised:
        BertWords(Options(vocabulary=WORDS), BLIP, 30524, "a.pt").count("red")
    message = str(raised.value)
    assert message.startswith(
        f"a.pt: has 30524 word embeddings, but the vocabulary of a.pt needs {len(WORDS) + 2} with [DEC]"
    )
    assert "--tokenizer FOLDER" in message


def test_repeated_words_are_refused() -> None:
    """The ids after the second one would shift."""
    with pytest.raises(InputError, match=f"{len(WORDS) + 1} words, {len(WORDS)} distinct"):
        BertWords(Options(vocabulary=(*WORDS, "red")), BLIP, len(WORDS) + 3, "a.pt").count("red")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("vocab.txt", b"\xff\xfe", "is not a vocabulary (UnicodeDecodeError"),
        ("tokenizer.json", b"{", "is not a vocabulary (JSONDecodeError"),
        ("tokenizer.json", b'{"model": {}}', "is not a vocabulary (KeyError"),
        ("tokenizer.json", b'{"model": {"vocab": [["a", 1.0]]}}', "is not a vocabulary (TypeError"),
        ("vocab.txt", b"red\nblue\n", "is not a BERT vocabulary: missing ['[PAD]', '[UNK]', '[CLS]', '[SEP]']"),
    ],
)
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, file: str, content: bytes, said: str) -> None:
    (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError) as raised:
        BertWords(Options(tokenizer=str(tmp_path)), BLIP, 4, "a.pt").count("red")
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
