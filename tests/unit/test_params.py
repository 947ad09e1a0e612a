"""The settings: the shipped file, and every way to misspell it."""

from pathlib import Path
from typing import Any

import pytest

from spn4cir.errors import InputError
from spn4cir.params import find_params, load_params, of_dataset, of_family, parse_params, published_params

TEXT = (Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8")


def edited(old: str, new: str) -> str:
    assert old in TEXT, f"params.yaml has no {old!r}: mend this test"
    return TEXT.replace(old, new, 1)


def test_the_shipped_file_is_valid_and_frozen() -> None:
    params = parse_params(TEXT, "params.yaml")
    assert params == published_params()
    with pytest.raises(ValueError, match="frozen"):
        params.seed = 3  # type: ignore[misc]


@pytest.mark.parametrize("dataset", ["fiq", "cirr"])
def test_published_settings_of_clip(dataset: str) -> None:
    """As the paper's table has them, for both stages."""
    params = parse_params(TEXT, "params.yaml")
    train = params.train[dataset]["clip"]
    assert (train.batch_size, train.epochs, train.lr, train.tau) == (256, 3, 2e-5, 0.02)
    assert (train.betas, train.eps, train.weight_decay, train.precision) == ((0.9, 0.999), 1e-7, 0.01, "float16")
    assert (train.negatives, train.bank_samples, train.positives) == ("bank", None, "both")
    first = params.checkpoint[dataset]["clip"].train
    assert (first.batch_size, first.epochs, first.lr, first.tau) == (128, 100, 2e-6, 0.01)
    assert params.seed == 42
    assert params.validate_[dataset]["clip"].remove_reference
    assert not params.validate_[dataset]["clip"].capitalise
    window, words = params.match[dataset].window["clip"], params.caption[dataset].words["clip"]
    triplets = params.triplets[dataset]["clip"]
    if dataset == "fiq":
        assert (window, words, triplets.refer, triplets.templates) == ((10_000, 20_000), 4, True, (2,))
    else:
        assert (window, words, triplets.refer, triplets.templates) == ((10_000, 15_000), 8, False, (0, 1))
    assert (triplets.sample, triplets.max_tokens) == (None, 77)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("seed: 42", "sead: 42", "sead: unknown key; check its spelling"),
        ("seed: 42", "", "seed: is missing; add it"),
        ("seed: 42", "seed: many", "seed: .*got 'many'"),
        ("tau: 0.02", "tua: 0.02", r"checkpoint\.demo_fiq\.clip\.train\.tua: unknown key"),
        ("tau: 0.02", "tau: 0", r"tau: .*greater than 0.*got 0"),
        ("tau: 0.02", "tau: .inf", r"tau: .*finite number"),
        ("betas: [0.9, 0.999]", "betas: [0.9, 1.0]", r"betas\.1: .*less than 1"),
        ("betas: [0.9, 0.999]", "betas: [0.9]", r"betas\.1: is missing"),
        ("missing: error", "missing: maybe", r"datasets\.demo_fiq\.missing: .*'error' or 'skip'"),
        ("clip: [10000, 20000]", "clip: [0, 5]", r"window\.clip is \[lo, hi\) with 1 <= lo < hi, got \[0, 5\]"),
        ("clip: [10000, 20000]", "clip: [7, 7]", r"window\.clip is \[lo, hi\)"),
        ("in {words} words", "in few words", "prompt lacks the field {words}"),
        ("describe the {noun}", "describe the {thing}", "prompt knows the fields {noun} and {words} only"),
        ("describe the {noun}", "describe the {", "prompt knows the fields"),
        ("describe the {noun}", "describe the {noun[a]}", "prompt knows the fields"),
        ("describe the {noun}", "describe the {words.x}", "prompt knows the fields"),
        ("seed: 42", "seed: -1", "seed: .*greater than or equal to 0"),
        ("seed: 42", "seed: 4294967296", "seed: .*less than 4294967296"),
        ("weight_decay: 0.01", "weight_decay: .inf", "weight_decay: .*finite number"),
        ("window: {clip: [10000, 20000]}", "window: {}", r"match\.fiq\.window: .*at least 1"),
        ("templates: [2]", "templates: [3]", r"templates\.0: .*less than or equal to 2"),
        ("templates: [2]", "templates: []", "templates: .*at least 1"),
        ("dtype: float32", "dtype: float8", "dtype: "),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as raised:
        parse_params(edited(old, new), "here.yaml")
    assert str(raised.value).startswith("here.yaml: ")
    assert "\n" not in str(raised.value)


def test_samples_of_the_batch_are_refused() -> None:
    text = TEXT.replace("negatives: bank", "negatives: batch").replace("bank_samples: null", "bank_samples: 5")
    with pytest.raises(InputError, match="bank_samples draws from the bank"):
        parse_params(text, "here.yaml")


@pytest.mark.parametrize("text", ["", "[1]", "a: [", "a: 1\na: 2", "\ta: 1"])
def test_what_is_no_settings_file(text: str) -> None:
    with pytest.raises(InputError, match=r"^here\.yaml") as raised:
        parse_params(text, "here.yaml")
    assert "\n" not in str(raised.value)


def test_an_unknown_data_set_or_family_is_named_with_the_known_ones() -> None:
    section: dict[str, dict[str, Any]] = {"fiq": {"clip": 1}}
    assert of_dataset(section, "fiq", "train") == {"clip": 1}
    assert of_family(section, "fiq", "clip", "train") == 1
    with pytest.raises(InputError, match=r"train\.fqi is not set \(data sets there: fiq\)"):
        of_family(section, "fqi", "clip", "train")
    with pytest.raises(InputError, match=r"train\.fiq\.blip is not set \(families there: clip\)"):
        of_family(section, "fiq", "blip", "train")


def test_settings_in_reach(tmp_path: Path) -> None:
    """The folder's, else one above it, else those of the package."""
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "params.yaml").write_text(edited("seed: 42", "seed: 7"))
    assert find_params(inner).seed == 7
    (inner / "params.yaml").write_text(edited("seed: 42", "seed: 8"))
    assert find_params(inner).seed == 8
    (inner / "params.yaml").write_text(edited("seed: 42", "seed: many"))
    with pytest.raises(InputError, match="seed"):
        find_params(inner)


@pytest.mark.parametrize("content", [b"lr: {{ cookiecutter.lr }}: x\n", b"\xff\xfe"])
def test_a_template_above_is_passed_over_with_a_word(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is another program's; in the folder itself it is a fault."""
    (tmp_path / "params.yaml").write_bytes(content)
    (tmp_path / "a").mkdir()
    assert find_params(tmp_path / "a") == published_params()
    assert capsys.readouterr().err.startswith(f"warning: passed over: {tmp_path}/params.yaml:")
    with pytest.raises(InputError):
        find_params(tmp_path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="UTF-8"):
        load_params(tmp_path / "params.yaml")
