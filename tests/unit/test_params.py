"""The settings: the shipped file, and every way to misspell it."""

from pathlib import Path
from typing import Any

import pytest

from spn4cir.config.load import find_params, load_params, parse_merged, parse_params, published_file
from spn4cir.config.params import of_dataset, of_family, protocol_of
from spn4cir.config.training import Optimisation
from spn4cir.errors import InputError
from tests.helpers.params import published_params

TEXT = (Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8")


def edited(old: str, new: str) -> str:
    assert old in TEXT, f"params.yaml has no {old!r}: mend this test"
    return TEXT.replace(old, new, 1)


def test_the_shipped_file_is_valid_and_frozen() -> None:
    params = parse_params(TEXT, "params.yaml")
    assert params == published_params()
    with pytest.raises(ValueError, match="frozen"):
        params.seed = 3  # type: ignore[misc]


def test_settings_that_a_caller_changes_are_read_again_as_they_are_written() -> None:
    parse_merged(TEXT, "params.yaml")[1].values["run"].clear()
    assert parse_merged(TEXT, "params.yaml")[1].values["run"]


def test_deeply_nested_settings_are_read_as_any_others() -> None:
    with pytest.raises(InputError, match=r"^p\.yaml: deep: unknown key"):
        parse_params(f"{TEXT}\ndeep: {'[' * 500}{']' * 500}\n", "p.yaml")


# Stage 2 as the paper has it: batch, epochs, lr, tau, learned, betas, weight decay, dropout.
ADAM, ADAM2 = (0.9, 0.999), (0.9, 0.98)
STAGE2 = {
    ("fiq", "clip"): (256, 3, 2e-5, 0.02, False, ADAM, 0.01, False),
    ("cirr", "clip"): (256, 3, 2e-5, 0.02, False, ADAM, 0.01, False),
    ("fiq", "tgcir"): (256, 5, 2e-5, 0.02, False, ADAM, 0.01, False),
    ("cirr", "tgcir"): (256, 5, 2e-5, 0.01, False, ADAM, 0.01, False),
    ("fiq", "blip"): (128, 10, 5e-6, 0.03, True, ADAM, 0.01, False),
    ("cirr", "blip"): (128, 3, 6e-6, 0.02, True, ADAM, 0.01, False),
    ("fiq", "blip2"): (32, 3, 1e-5, 0.05, True, ADAM2, 0.05, True),
    ("cirr", "blip2"): (32, 3, 1e-5, 0.05, True, ADAM2, 0.05, True),
    ("fiq", "zs"): (128, 5, 2e-6, 0.02, False, ADAM, 0.01, False),
    ("cirr", "zs"): (128, 5, 2e-6, 0.02, False, ADAM, 0.01, False),
    ("fiq", "zs_cc"): (128, 5, 2e-6, 0.02, False, ADAM, 0.01, False),
    ("cirr", "zs_cc"): (128, 5, 2e-6, 0.02, False, ADAM, 0.01, False),
}
# Stage 1: the same, then epsilon, the towers' rate and the schedule's name.
STAGE1 = {
    ("fiq", "clip"): (128, 100, 2e-6, 0.01, False, ADAM, 0.01, False, 1e-7, None, "constant"),
    ("cirr", "clip"): (128, 100, 2e-6, 0.01, False, ADAM, 0.01, False, 1e-7, None, "constant"),
    ("fiq", "tgcir"): (64, 30, 1e-4, 0.1, False, ADAM, 0.01, False, 1e-8, 1e-5, "decay"),
    ("cirr", "tgcir"): (64, 30, 1e-4, 0.05, False, ADAM, 0.01, False, 1e-8, 1e-5, "decay"),
    ("fiq", "blip"): (512, 20, 2e-5, 0.07, True, ADAM, 0.05, False, 1e-8, None, "cosine"),
    ("cirr", "blip"): (512, 40, 2e-5, 0.07, True, ADAM, 0.05, False, 1e-8, None, "cosine"),
    ("fiq", "blip2"): (128, 30, 2e-5, 0.07, True, ADAM2, 0.05, True, 1e-7, None, "one_cycle"),
    ("cirr", "blip2"): (128, 50, 1e-5, 0.07, True, ADAM2, 0.05, True, 1e-7, None, "one_cycle"),
    ("fiq", "zs"): (48, 10, 2e-6, 0.01, False, ADAM, 0.01, False, 1e-7, None, "constant"),
    ("cirr", "zs"): (48, 10, 2e-6, 0.01, False, ADAM, 0.01, False, 1e-7, None, "constant"),
    ("fiq", "zs_cc"): (48, 10, 2e-6, 0.01, False, ADAM, 0.01, False, 1e-7, None, "constant"),
    ("cirr", "zs_cc"): (48, 10, 2e-6, 0.01, False, ADAM, 0.01, False, 1e-7, None, "constant"),
}
# Generated triplets: words of their captions, window, refer, templates, sample.
NEAR = {"fiq": (10_000, 20_000), "cirr": (10_000, 15_000)}
WRITTEN = {
    ("fiq", "clip"): (4, NEAR["fiq"], True, (2,), None),
    ("cirr", "clip"): (8, NEAR["cirr"], False, (0, 1), None),
    ("fiq", "tgcir"): (10, NEAR["fiq"], True, (2,), None),
    ("cirr", "tgcir"): (10, NEAR["cirr"], False, (0, 1), None),
    ("fiq", "blip"): (10, None, True, (2,), 3000),
    ("cirr", "blip"): (10, None, False, (0, 1), None),
    ("fiq", "blip2"): (10, None, True, (2,), 6000),
    ("cirr", "blip2"): (10, None, True, (0, 1), None),
    ("fiq", "zs"): (5, None, False, (2,), None),
    ("cirr", "zs"): (10, None, False, (0, 1), None),
    ("fiq", "zs_cc"): (10, None, False, (2,), None),
    ("cirr", "zs_cc"): (10, None, False, (0, 1), None),
}


def shared(settings: Optimisation) -> tuple[object, ...]:
    return (
        settings.batch_size,
        settings.epochs,
        settings.lr,
        settings.tau,
        settings.learn_tau,
        settings.betas,
        settings.weight_decay,
        settings.dropout,
    )


@pytest.mark.parametrize(("dataset", "family"), list(STAGE2))
def test_published_settings(dataset: str, family: str) -> None:
    """They equal those of the paper's commands and of the four first stages' repositories."""
    params = parse_params(TEXT, "params.yaml")
    train, first = params.train[dataset][family], params.checkpoint[dataset][family]
    assert shared(train) == STAGE2[dataset, family]
    assert (train.eps, train.precision, train.schedule.name) == (1e-7, "float16", "constant")
    assert (train.negatives, train.bank_samples) == ("bank", None)
    assert (train.generated_loss, train.generated_weight) == ("info_nce", 1)
    assert (train.hardness, train.false_negatives) == (0, None)
    base = first.train
    assert (*shared(base), base.eps, base.backbone_lr, base.schedule.name) == STAGE1[dataset, family]
    zero_shot = family.startswith("zs")
    assert train.positives == ("generated" if zero_shot else "both")
    assert first.positives == ("generated" if zero_shot else "annotated")
    assert params.bank[dataset][family].images == ("generated" if zero_shot else "annotated")
    assert params.seed == 42


@pytest.mark.parametrize(("dataset", "family"), list(WRITTEN))
def test_published_triplets(dataset: str, family: str) -> None:
    """Captions, windows, templates and samples of the published commands."""
    params = parse_params(TEXT, "params.yaml")
    caption, triplets = params.caption[dataset], params.triplets[dataset][family]
    words = (caption.words | caption.pool)[family]
    window = params.match[dataset].window[family]
    assert (words, window, triplets.refer, triplets.templates, triplets.sample) == WRITTEN[dataset, family]
    assert triplets.max_tokens == 77
    assert (family in caption.pool) == (family == "zs_cc")


@pytest.mark.parametrize(("dataset", "family"), list(STAGE2))
def test_published_protocols(dataset: str, family: str) -> None:
    """On FashionIQ three families keep the reference and capitalise the text; on CIRR none does."""
    settings = parse_params(TEXT, "params.yaml").validate_[dataset][family]
    kept = dataset == "fiq" and family in ("tgcir", "blip", "blip2")
    assert (settings.remove_reference, settings.capitalise) == (not kept, kept)


def test_published_pools() -> None:
    """CC3M's parts: four for FashionIQ, three more for CIRR."""
    datasets = parse_params(TEXT, "params.yaml").datasets
    assert datasets["fiq"].pool == (0, 64, 128, 192)
    assert sorted(set(datasets["cirr"].pool or ()) - set(datasets["fiq"].pool or ())) == [32, 96, 160]


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
        (
            "layout: fashioniq, missing: error",
            "layout: fashioniq, missing: maybe",
            r"datasets\.demo_fiq\.missing: .*'error' or 'skip'",
        ),
        ("clip: [10000, 20000]", "clip: [0, 5]", r"window\.clip is \[lo, hi\) with 1 <= lo < hi, got \[0, 5\]"),
        ("clip: [10000, 20000]", "clip: [7, 7]", r"window\.clip is \[lo, hi\)"),
        ("in {words} words", "in few words", "prompt lacks the field {words}"),
        ("describe the {noun}", "describe the {thing}", "prompt can have only the fields {noun} and {words}"),
        ("describe the {noun}", "describe the {", "prompt can have only the fields"),
        ("describe the {noun}", "describe the {noun[a]}", "prompt can have only the fields"),
        ("describe the {noun}", "describe the {words.x}", "prompt can have only the fields"),
        ("seed: 42", "seed: -1", "seed: .*greater than or equal to 0"),
        ("seed: 42", "seed: 4294967296", "seed: .*less than 4294967296"),
        ("weight_decay: 0.01", "weight_decay: .inf", "weight_decay: .*finite number"),
        (
            "window: {clip: [10000, 20000], tgcir: [10000, 20000], blip: null, blip2: null, zs: null, zs_cc: null}",
            "window: {}",
            r"match\.fiq\.window: .*at least 1",
        ),
        ("templates: [2]", "templates: [4]", r"templates\.0: .*less than or equal to 3"),
        ("templates: [2]", "templates: []", "templates: .*at least 1"),
        ("dtype: float32", "dtype: float8", "dtype: "),
        (
            '"please {text}"',
            '"please"',
            r"shortcuts\.demo_cirr: a template has the field \{text\} and no other, got 'please'",
        ),
        ('"please {text}"', '"{text} {x}"', r"shortcuts\.demo_cirr: a template has the field \{text\}"),
        ("generated_loss: info_nce", "generated_loss: rince", r"generated_loss: .*'info_nce' or 'robust'"),
        ("generated_weight: 1.0", "generated_weight: 0", r"generated_weight: .*greater than 0"),
        ("hardness: 0.0", "hardness: -0.5", r"hardness: .*greater than or equal to 0"),
        (
            "false_negatives: null",
            "false_negatives: {above: 1}",
            r"false_negatives: has none .* \(got \{'above': 1\}\)",
        ),
        ("false_negatives: null", "false_negatives: {quantile: 0}", r"false_negatives: has none of the forms"),
        ("endpoints: {}", "endpoints: {gpu: [localhost]}", r"endpoints\.gpu\.0: expected a URL .*got 'localhost'\)$"),
        ("endpoints: {}", "endpoints: {gpu: ['http://u:p@a/v1']}", r"gpu\.0: expected .*\(got 'http://\*\*\*@a/v1'\)$"),
        (
            "endpoints: {}",
            "endpoints: {gpu: ['http://a/v1?key=x']}",
            r"gpu\.0: expected .*\(got 'http://a/v1\?\*\*\*'\)$",
        ),
        ("endpoints: {}", "endpoints: {gpu: ['http://a/v1#x']}", r"gpu\.0: expected .*\(got 'http://a/v1#\*\*\*'\)$"),
        (
            "endpoints: {}",
            "endpoints: {gpu: ['http://[::1/v1']}",
            r"gpu\.0: expected a URL .*\(got 'http://\[::1/v1'\)$",
        ),
        ("endpoints: {}", "endpoints: {gpu: ['http://a:99999/v1']}", r"gpu\.0: expected a URL"),
        (
            "endpoints: {}",
            "endpoints: {gpu: ['http://a/v1/chat/completions']}",
            r"gpu\.0: expected the URL before /chat/c",
        ),
        ("endpoints: {}", "endpoints: {gpu: 'http://a/v1'}", r"endpoints\.gpu: expected a list, with one URL a line"),
        ("endpoints: {}", "endpoints: {gpu: []}", r"endpoints\.gpu: .*at least 1"),
        (
            "  devices: null",
            "  devices: [1, 1]",
            r"^here\.yaml: machine: devices \[1, 1\] lists a GPU twice; list it once$",
        ),
        (
            "endpoints: {}",
            "endpoints: {gpu: ['http://a/v1', 'http://a/v1']}",
            r"endpoints\.gpu: http://a/v1 is listed 2 times; list it once",
        ),
        ("  device: auto", "  device: tpu", r"machine\.device: expected auto, cpu, cuda .*got 'tpu'"),
        ("thumbnail: 112", "thumbnail: 9", r"report\.thumbnail: .*greater than or equal to 16"),
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


@pytest.mark.parametrize(("rule", "value"), [("above", 0.9), ("quantile", 0.99)])
def test_both_kinds_of_false_negatives(rule: str, value: float) -> None:
    text = TEXT.replace("false_negatives: null", f"false_negatives: {{{rule}: {value}}}")
    train = parse_params(text, "here.yaml").train["fiq"]["clip"]
    assert train.model_dump()["false_negatives"] == {rule: value}


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


def test_an_error_in_the_settings_of_the_package_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An editable install reads the file of the clone, which its user can have changed."""
    path = tmp_path / "clone" / "params.yaml"
    path.parent.mkdir()
    path.write_text("datasets: {}\nunknown: 1\n")
    monkeypatch.setattr(published_file, "__defaults__", (path.parent / "spn4cir",))
    with pytest.raises(InputError, match=f"^the package's params.yaml \\({path}\\): unknown: unknown key"):
        find_params(tmp_path)


@pytest.mark.parametrize("content", [b"lr: {{ cookiecutter.lr }}: x\n", b"\xff\xfe"])
def test_a_template_above_is_passed_over_with_a_word(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is another program's; in the folder itself it is a fault."""
    (tmp_path / "params.yaml").write_bytes(content)
    (tmp_path / "a").mkdir()
    assert find_params(tmp_path / "a") == published_params()
    assert capsys.readouterr().err.startswith(f"warning: skipped: {tmp_path}/params.yaml:")
    with pytest.raises(InputError):
        find_params(tmp_path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="UTF-8"):
        load_params(tmp_path / "params.yaml")


def test_benchmarks_are_scored_as_their_authors_do() -> None:
    """The reference kept in the ranking, the text alone; and names that no data set has."""
    params = published_params()
    for name in ("demo_circo", "circo"):
        settings = params.benchmarks[name]
        assert (settings.layout, settings.query_text) == ("circo", "{relative_caption}")
        assert not settings.validate_.remove_reference
        assert protocol_of(params, name, "clip") is protocol_of(params, name, "blip2") is settings.validate_
    genecis = params.benchmarks["genecis"]
    assert (genecis.layout, genecis.query_text, genecis.validate_.remove_reference) == ("genecis", "{condition}", False)
    with pytest.raises(InputError, match="'cirr' is a data set and a benchmark"):
        parse_params(edited("  circo: {layout: circo", "  cirr: {layout: circo"), "params.yaml")
