"""Empty texts of annotations, which published files contain: used unchanged, counted, never an error."""

from pathlib import Path
from typing import Any

import pytest

from spn4cir.composers.blip2 import clean
from spn4cir.composers.encoding import EncodedGallery
from spn4cir.config.load import load_params
from spn4cir.config.params import PARAMS_FILE, Params, Validate
from spn4cir.datasets import open_benchmark, open_layout
from spn4cir.datasets.cc3m import Cc3m
from spn4cir.datasets.texts import evaluation_text, training_texts
from spn4cir.evaluation.evaluate import encode_splits, evaluate
from spn4cir.evaluation.metrics_file import metrics_file
from spn4cir.projects.check import check_data
from spn4cir.projects.check_lines import check_lines
from spn4cir.types import Triplet
from tests.conftest import CPU
from tests.helpers.benchmarks import write_circo, write_genecis
from tests.helpers.layouts import change, write, write_cirr, write_fashioniq, write_folder
from tests.helpers.pools import write_folders
from tests.helpers.stub import StubComposer

# What FashionIQ holds: a pair, its text in validation as written and with a capital, its texts in training.
PAIRS = [
    (
        ("", "has buttons on it"),
        " and has buttons on it",
        " and has buttons on it",
        (" and has buttons on it", "has buttons on it and ", "", "has buttons on it"),
    ),
    (
        ("is casual and plaid", ""),
        "is casual and plaid and ",
        "Is casual and plaid and ",
        ("is casual and plaid and ", " and is casual and plaid", "is casual and plaid", ""),
    ),
    (
        ("Darker and not as shiny", "."),
        "Darker and not as shiny and ",
        "Darker and not as shiny and ",
        ("Darker and not as shiny and ", " and Darker and not as shiny", "Darker and not as shiny", ""),
    ),
    (
        ("", " leafy and tall"),
        " and leafy and tall",
        " and leafy and tall",
        (" and leafy and tall", "leafy and tall and ", "", "leafy and tall"),
    ),
    ((" ", "Is Gray. "), " and Is Gray", " and Is Gray", (" and Is Gray", "Is Gray and ", "", "Is Gray")),
]


@pytest.fixture(scope="module")
def params() -> Params:
    return load_params(Path(__file__).parents[2] / PARAMS_FILE)


@pytest.mark.parametrize(("pair", "plain", "capital", "training"), PAIRS)
def test_a_pair_with_an_empty_half(
    params: Params, pair: tuple[str, str], plain: str, capital: str, training: tuple[str, ...]
) -> None:
    """The original's strings: families differ by the capital in validation alone, and all train on the same four."""
    texts = {family: evaluation_text(pair, own.capitalise) for family, own in params.validate_["fiq"].items()}
    assert texts == {"clip": plain, "zs": plain, "zs_cc": plain, "tgcir": capital, "blip": capital, "blip2": capital}
    assert training_texts(Triplet("a", pair, "b")) == training


@pytest.mark.parametrize("caption", ["", " ", "."])
def test_a_single_empty_caption_is_the_text(params: Params, caption: str) -> None:
    """CIRR's is not stripped; BLIP-2's clean-up leaves nothing of it."""
    texts = {evaluation_text((caption,), own.capitalise) for own in params.validate_["cirr"].values()}
    assert texts == {caption}
    assert training_texts(Triplet("a", (caption,), "b")) == (caption,)
    assert clean(caption) == ""


def test_the_clean_up_of_blip2_squeezes_what_is_left_of_an_empty_half() -> None:
    assert clean(" and has buttons on it") == "and has buttons on it"
    assert clean("Darker and not as shiny and ") == "darker and not as shiny and"


@pytest.mark.parametrize(
    ("captions", "empty"),
    [
        (("is red", ""), True),
        ((" ",), True),
        ((".",), True),
        ((" ?,\n\t.",), True),
        (("-",), False),
        (("is red.", "a"), False),
    ],
)
def test_what_counts_as_empty(captions: tuple[str, ...], empty: bool) -> None:
    assert Triplet("a", captions, "b").has_empty_text == empty


def emptied(key: str, value: Any) -> Any:
    return lambda records: records[1].update({key: value})


def write_csv(root: Path) -> Path:
    """A row of each split has an empty cell."""
    path = write_folder(root) / "triplets.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    for number in (2, 35):
        reference, target, *_, split, group = lines[number].split(",")
        lines[number] = ",".join((reference, target, "", split, group))
    path.write_text("\n".join(lines), encoding="utf-8")
    return root


def fashioniq_root(root: Path) -> Path:
    write_fashioniq(root)
    change(root / "captions/cap.shirt.val.json", emptied("captions", ["", "has buttons on it"]))
    change(root / "captions/cap.shirt.test.json", emptied("captions", ["", ""]))
    change(root / "captions/cap.dress.train.json", emptied("captions", ["Darker", "."]))
    return root


def cirr_root(root: Path) -> Path:
    write_cirr(root)
    for split in ("train", "val", "test1"):
        change(root / f"cirr/captions/cap.rc2.{split}.json", emptied("caption", " "))
    return root


def circo_root(root: Path) -> Path:
    write_circo(root)
    for split in ("val", "test"):
        change(root / f"annotations/{split}.json", emptied("relative_caption", " "))
    return root


def genecis_root(root: Path) -> Path:
    change(write_genecis(root) / "genecis/change_object.json", emptied("condition", ""))
    return root


CASES = {
    "fashioniq": (fashioniq_root, {}, {"train dress": 1, "val shirt": 1, "test shirt": 1}),
    "cirr": (cirr_root, {}, {"train": 1, "val": 1, "test1": 1}),
    "circo": (circo_root, {}, {"val": 1, "test": 1}),
    "genecis": (genecis_root, {}, {"change_object": 1}),
    "folder": (write_csv, {"annotations": "triplets.csv"}, {"train": 1, "val": 1}),
}


@pytest.mark.parametrize("layout", CASES)
def test_check_data_counts_them_and_is_content(tmp_path: Path, layout: str) -> None:
    make, options, expected = CASES[layout]
    found = check_data(open_benchmark(layout, make(tmp_path / layout), "error", options), 0)
    assert found.is_whole
    counts = {f"{cost.split} {cost.category}".strip(): cost.empty_texts for cost in found.costs}
    assert {split: count for split, count in counts.items() if count} == expected
    assert [split["empty_texts"] for split in found.as_dict()["splits"]] == list(counts.values())
    said = ", ".join(f"{split} {count}" for split, count in expected.items())
    assert f"triplets with an empty text, which is used as it is: {said}" in check_lines(found, whole=False)


def test_check_data_says_nothing_of_texts_where_none_is_empty(tmp_path: Path) -> None:
    found = check_data(open_layout("cirr", write_cirr(tmp_path / "cirr"), "error"), 0)
    assert not any("empty text" in line for line in check_lines(found, whole=False))


@pytest.mark.parametrize(
    ("layout", "queries", "empty"),
    [
        ("fashioniq", {"dress": 6, "shirt": 6, "toptee": 6}, {"dress": 0, "shirt": 1, "toptee": 0}),
        ("cirr", {"val": 12}, {"val": 1}),
        ("circo", {"val": 6}, {"val": 1}),
        ("folder", {"val": 10}, {"val": 1}),
    ],
)
def test_validation_scores_and_counts_them(
    tmp_path: Path, layout: str, queries: dict[str, int], empty: dict[str, int]
) -> None:
    make, options, _ = CASES[layout]
    opened = open_benchmark(layout, make(tmp_path / layout), "error", options)
    protocol = Validate(remove_reference=layout != "circo", capitalise=False, batch_size=4, sheet_queries=3)
    stub, splits = StubComposer(), opened.evaluation_splits()
    images: EncodedGallery = encode_splits(stub, splits, protocol, 0, CPU)
    counts = metrics_file(evaluate(stub, opened, splits, images, protocol, CPU), opened, protocol, stub)["counts"]
    assert (counts["queries"], counts["empty_texts"]) == (queries, empty)
    assert set(counts["left_out"].values()) == {0}


@pytest.mark.parametrize("layout", ["fashioniq", "cirr", "folder"])
def test_an_empty_generated_text_is_read_and_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: str
) -> None:
    """A published file is read whole, and its user hears of it."""
    make, options, _ = CASES[layout]
    opened = open_layout(layout, make(tmp_path / layout), "error", options)
    first, second = opened.training_triplets()[:2]
    records = [
        opened.generated_record(Triplet(t.reference_name, (text,), t.target_name), "one", "two")
        for t, text in ((first, " "), (second, "a blue one"))
    ]
    path = write(tmp_path / "generated.json", records)
    assert [triplet.captions for triplet in opened.read_generated(path)] == [(" ",), ("a blue one",)]
    assert capsys.readouterr().err == (
        f"{path}: 1 of 2 generated triplets have an empty text, which is used as it is; "
        "check the captions that they were made from\n"
    )


def test_an_empty_text_of_a_pool_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool = Cc3m(write_folders(tmp_path / "pool"), None, "error")
    one, two = pool.images()[:2]
    record = pool.generated_record(Triplet(one.name, ("",), two.name))
    (triplet,) = pool.read_generated(write(tmp_path / "generated.json", [record]))
    assert triplet.captions == ("",)
    assert "1 of 1 generated triplets have an empty text" in capsys.readouterr().err
