"""Values that are written once: how `defaults` and entries are merged, and that params.yaml repeats none."""

import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML

from spn4cir.config.defaults import BY_FAMILY, SHARED, WATCHED, merge_defaults
from spn4cir.config.load import load_params, parse_params
from spn4cir.errors import InputError

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")
# What people vary from run to run: written in each entry, so that `dvc exp run -S` finds the key.
SWEPT = {"tau", "lr", "epochs", "batch_size"}


def content() -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe").load(TEXT)
    return loaded


def test_general_family_and_entry_are_merged_in_this_order() -> None:
    """Mappings key by key; numbers, lists, null and a choice of several kinds (a schedule) are replaced whole."""
    defaults = {
        "all": {"lr": 1, "betas": [1, 2], "sample": 3, "schedule": {"name": "decay", "every": 5}, "eps": 7},
        "clip": {"lr": 2, "dropout": True},
    }
    entry = {"lr": 3, "betas": [4], "sample": None, "schedule": {"name": "constant"}}
    merged = merge_defaults({"defaults": {"train": defaults}, "train": {"fiq": {"clip": entry, "zs": {}}}}, "p")
    assert merged.values == {
        "train": {
            "fiq": {
                "clip": {
                    "lr": 3,
                    "betas": [4],
                    "sample": None,
                    "schedule": {"name": "constant"},
                    "eps": 7,
                    "dropout": True,
                },
                "zs": defaults["all"],
            }
        }
    }
    origins = {key: merged.origin(("train", "fiq", "clip", key)) for key in ("lr", "sample", "dropout", "eps")}
    assert origins == {
        "lr": "train.fiq.clip",
        "sample": "train.fiq.clip",
        "dropout": "defaults.train.clip",
        "eps": "defaults.train.all",
    }


def test_inner_mappings_are_merged_too() -> None:
    """Stage 1's settings below `train`, and those by family of a section without families."""
    first = {"all": {"train": {"tau": 1, "lr": 1}}, "clip": {"train": {"tau": 2}}}
    given = {
        "defaults": {"checkpoint": first, "benchmarks": {"validate": {"a": 1, "b": 1}}},
        "checkpoint": {"fiq": {"clip": {"train": {"lr": 3}}}},
        "benchmarks": {"circo": {"validate": {"b": 2}}},
    }
    merged = merge_defaults(given, "p")
    assert merged.values["checkpoint"]["fiq"]["clip"] == {"train": {"tau": 2, "lr": 3}}
    assert merged.values["benchmarks"]["circo"] == {"validate": {"a": 1, "b": 2}}
    assert merged.written(("checkpoint", "fiq", "clip", "train", "tau")) == "defaults.checkpoint.clip.train.tau"
    assert merged.written(("benchmarks", "circo", "validate", "a")) == "defaults.benchmarks.validate.a"


def test_a_data_set_has_the_families_that_it_names() -> None:
    given = {"defaults": {"bank": {"all": {"dtype": 1}, "clip": {}, "blip": {}}}, "bank": {"fiq": {"clip": {}}}}
    assert merge_defaults(given, "p").values == {"bank": {"fiq": {"clip": {"dtype": 1}}}}


def test_what_is_given_is_left_as_it_is() -> None:
    """An entry that two data sets share by a YAML anchor, too."""
    shared = {"clip": {"tau": 1}}
    given = {"defaults": {"train": {"all": {"lr": 2}}}, "train": {"a": shared, "b": shared}}
    merged = merge_defaults(given, "p")
    assert shared == {"clip": {"tau": 1}}
    assert merged.origin(("train", "b", "clip", "lr")) == "defaults.train.all"


def test_a_file_that_writes_every_value_needs_no_defaults() -> None:
    whole = parse_params(TEXT, "p").model_dump(by_alias=True, mode="json")
    place = StringIO()
    YAML(typ="safe").dump(whole, place)
    assert parse_params(place.getvalue(), "p") == parse_params(TEXT, "p")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            "defaults:\n  dedup:",
            "defaults:\n  dedupe:",
            r"defaults\.dedupe: no such defaults; choose from: dedup,",
        ),
        ("  match: {partners: 1", "  models: {partners: 1", r"defaults\.models: no such defaults"),
        (
            "  match: {partners: 1, batch_size: 128}",
            "  match: 1",
            r"defaults\.match: expected settings, got 1; write {}",
        ),
        ("    blip: {dtype: float16}", "    blip:", r"defaults\.bank\.blip: expected settings, got None; write {}"),
        (
            "  match: {partners: 1",
            "  match: {window: {}, partners: 1",
            r"defaults\.match\.window: has no default, because DVC",
        ),
        (
            "all: {source: path",
            "all: {positives: annotated, source: path",
            r"defaults\.checkpoint\.all\.positives: has no",
        ),
        (
            "eps: 1.0e-7, precision: float16, neg",
            "eps: 0, precision: float16, neg",
            r"defaults\.train\.all\.eps: .*got 0",
        ),
        (
            "weight_decay: 0.01, betas: [0.9, 0.999], eps: 1.0e-7, precision: float16, n",
            "n",
            r"train\.demo_fiq\.clip\.eps: is missing; add it",
        ),
        (
            "    blip2: {refer: true}",
            "    blip3: {refer: true}",
            r"defaults\.triplets\.blip3: no data set of triplets has",
        ),
        ("    blip: {learn_tau: true}", "    blip: {learns: 1}", r"p: defaults\.train\.blip\.learns: unknown key"),
        (
            "  demo_cirr: {clip: {}, tgcir",
            "  demo_cirr: {clip: , tgcir",
            r"filter\.demo_cirr\.clip: is empty; write {}",
        ),
        (
            "  demo_cirr: {clip: {}, tgcir",
            "  demo_cirr: {all: {}, clip: {}, tgcir",
            r"filter\.demo_cirr\.all: 'all' is",
        ),
    ],
)
def test_what_is_wrong_is_named_where_it_is_written(old: str, new: str, problem: str) -> None:
    assert old in TEXT, f"params.yaml has no {old!r}: mend this test"
    with pytest.raises(InputError, match=problem) as raised:
        parse_params(TEXT.replace(old, new, 1), "p")
    assert "\n" not in str(raised.value)


def test_a_wrong_default_is_one_mistake_however_many_entries_take_it() -> None:
    text = TEXT.replace("negatives: bank, bank_samples: null", "negatives: none, bank_samples: null")
    with pytest.raises(InputError) as raised:
        parse_params(text, "p")
    assert str(raised.value).count("negatives") == 1


def test_a_value_that_is_missing_names_both_places() -> None:
    text = TEXT.replace(
        "dropout: false, weight_decay: 0.01, betas: [0.9, 0.999], eps: 1.0e-7, precision: float16, n", "n"
    )
    with pytest.raises(
        InputError, match=r"train\.demo_fiq\.clip\.dropout: is missing; add it, or defaults\.train\.clip"
    ):
        parse_params(text, "p")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("defaults:\n  dedup:", "default:\n  dedup:", "default: unknown key; check its spelling; dedup."),
        (
            "dropout: false, weight_decay",
            "droput: false, weight_decay",
            "defaults.checkpoint.all.train.droput: unknown",
        ),
        (
            "name: decay, factor",
            "name: decay, factr",
            "defaults.checkpoint.tgcir.train.schedule.factr: unknown key; check its spelling; "
            "defaults.checkpoint.tgcir.train.schedule.factor: is missing; add it",
        ),
        (
            "{hub: {file: fashionIQ_dataset/opt",
            "{hub: {fil: fashionIQ_dataset/opt",
            "dedup.fiq.hub.fil: unknown key; check its spelling; dedup.fiq.hub.file: is missing; add it",
        ),
        (
            "captioner: {local: .}",
            "captioner: {locl: .}",
            "models.demo_fiq.captioner: has none of the forms in docs/settings.md (got {'locl': '.'}); choose one",
        ),
        (
            "window: {clip: [400, 800]",
            "window: {clip: [400]",
            "match.demo_fiq.window.clip: has none of the forms in docs/settings.md (got [400]); choose one",
        ),
    ],
)
def test_a_misspelt_key_is_named_first_and_no_key_that_the_file_lacks(old: str, new: str, said: str) -> None:
    """Of what may have several forms, the keys alone: not those of pydantic's classes between them."""
    assert old in TEXT, f"params.yaml has no {old!r}: mend this test"
    with pytest.raises(InputError) as raised:
        parse_params(TEXT.replace(old, new, 1), "p")
    assert str(raised.value).startswith(f"p: {said}")
    if not said.endswith((".", "unknown")):
        assert str(raised.value) == f"p: {said}"


def pairs() -> Iterator[tuple[tuple[str, ...], Any, list[Any]]]:
    """Every entry: its path, what it has, and the defaults behind it."""
    loaded = content()
    for section in (*SHARED, *BY_FAMILY):
        general = loaded["defaults"][section]
        for name, entry in loaded[section].items():
            if section in SHARED:
                yield (section, name), entry, [general]
            else:
                for family, own in entry.items():
                    yield (section, name, family), own, [general["all"], general[family]]


def test_no_entry_repeats_a_default() -> None:
    """But for what is swept: only what differs is written."""

    def repeated(own: Any, behind: list[Any]) -> Iterator[str]:
        for key, value in own.items():
            having = [each[key] for each in behind if key in each]
            if isinstance(value, dict) and having and key not in ("schedule", "hub"):
                yield from repeated(value, having)
            elif having and having[-1] == value and key not in SWEPT:
                yield key

    assert {".".join(path): list(found) for path, own, behind in pairs() if (found := [*repeated(own, behind)])} == {}
    for path, _, behind in pairs():
        if len(path) == 3:
            general, family = behind
            assert not list(repeated(family, [general])), f"defaults.{path[0]}.{path[-1]}"


def test_what_people_sweep_is_written_in_every_entry() -> None:
    loaded = content()
    for dataset, families in loaded["train"].items():
        for family, entry in families.items():
            assert entry.keys() >= SWEPT, f"train.{dataset}.{family}"
            assert loaded["checkpoint"][dataset][family]["train"].keys() >= SWEPT
            assert family in loaded["match"][dataset]["window"]


def test_the_file_is_small() -> None:
    assert len(TEXT.encode()) < 20_000


@pytest.mark.parametrize("setting", ["train.fiq.clip.tau=0.3", "++train.fiq.clip.weight_decay=0.3"])
def test_a_value_of_dvc_exp_run_decides(setting: str, tmp_path: Path) -> None:
    """Of a key that the entry has, and with `++` of one that it leaves to the defaults; of this pair alone."""
    path = tmp_path / "params.yaml"
    path.write_text(TEXT)
    apply_overrides(path, [setting])
    key = setting.split("=")[0].split(".")[-1]
    before, after = (params.model_dump(by_alias=True) for params in (parse_params(TEXT, "p"), load_params(path)))
    assert before["train"]["fiq"]["clip"][key] != 0.3
    before["train"]["fiq"]["clip"][key] = 0.3
    assert after == before


def test_stages_depend_on_the_defaults_of_what_they_read() -> None:
    """Beside an entry of a data set its defaults; of a single key of an entry there are none."""
    for stage, found in YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"].items():
        declared = set(found.get("params", []))
        for key in declared:
            parts = re.match(
                r"(\w+)\.(\$\{item\.dataset\}|\$\{item\.benchmark\.name\})(\.\$\{item\.family\})?(.*)", key
            )
            if parts is None or parts[1] not in (*SHARED, *BY_FAMILY):
                continue
            if parts[4]:
                assert parts[4].split(".")[1] in WATCHED[parts[1]], f"{stage}: {key}"
                continue
            assert (parts[1] in BY_FAMILY) == (parts[3] is not None), f"{stage}: {key}"
            names = [".all", ".${item.family}"] if parts[3] else [""]
            assert {f"defaults.{parts[1]}{name}" for name in names} <= declared, f"{stage}: {key}"
