"""Mistakes across sections, found when the file is read."""

from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from spn4cir.config.load import parse_params
from spn4cir.errors import InputError

TEXT = (Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8")
SECTIONS = (
    "models",
    "dedup",
    "caption",
    "match",
    "triplets",
    "checkpoint",
    "bank",
    "filter",
    "train",
    "validate",
    "adjust",
    "shortcuts",
    "baselines",
)
Edit = Callable[[dict[str, Any]], Any]


def edited(change: Edit) -> str:
    content = YAML(typ="safe").load(TEXT)
    change(content)
    out = StringIO()
    YAML(typ="safe").dump(content, out)
    return out.getvalue()


def entry(section: str, dataset: str, family: str, **values: Any) -> Edit:
    return lambda content: content[section][dataset][family].update(values)


def filtered_without_generated(content: dict[str, Any]) -> None:
    without_generated(content)
    content["filter"]["demo_fiq"]["clip"].update(text_within=5)


def run(**lists: Any) -> Edit:
    return lambda content: content["run"].update(lists)


def undefined(section: str) -> Edit:
    return lambda content: content[section].update(nowhere=content[section]["demo_fiq"])


def family_of(section: str, key: str) -> Edit:
    """Adds a misspelt family, with the value of another one."""

    def change(content: dict[str, Any]) -> None:
        families = content[section]["fiq"][key]
        families["clp"] = next(iter(families.values()))

    return change


def model(dataset: str, kind: str) -> Edit:
    return lambda content: content["models"][dataset].update({kind: None})


def served_captioner(content: dict[str, Any]) -> None:
    content["models"]["demo_fiq"].update(captioner={"served": "gpu", "model": "m"})


def served_writer(content: dict[str, Any]) -> None:
    llm = {
        "served": "gpu",
        "model": "m",
        "sees": "images",
        "prompt": "What changes?",
        "temperature": 0,
        "max_tokens": 9,
    }
    content["triplets"]["demo_cirr"]["clip"].update(writer="llm", llm=llm)


def served_reranker(content: dict[str, Any]) -> None:
    by = {"served": "gpu", "model": "m", "prompt": "{text}?"}
    content["adjust"]["demo_cirr"]["clip"].update(rerank={"top": 5, "by": by, "share": 1.0})


def all_served(content: dict[str, Any]) -> None:
    for change in (served_captioner, served_writer, served_reranker):
        change(content)
    content["machine"].update(endpoints={"gpu": ["http://127.0.0.1:8000/v1"]})


def served_and_not_asked(content: dict[str, Any]) -> None:
    """The pair does not run, its captions are published, or its triplets are."""
    for change in (served_captioner, served_writer, served_reranker):
        change(content)
    content["caption"]["demo_fiq"].update(source="path")
    content["run"].update(datasets=["demo_fiq"], submit=[])


def without_generated(content: dict[str, Any]) -> None:
    """The settings of a pair that trains on its annotations alone, without a captioner and an encoder."""
    content["models"]["demo_fiq"].update(captioner=None, encoder=None)
    content["triplets"]["demo_fiq"]["clip"].update(source="none")
    content["train"]["demo_fiq"]["clip"].update(positives="annotated")


def window(value: Any) -> Edit:
    return lambda content: content["match"]["fiq"]["window"].update(clip=value)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            entry("bank", "fiq", "clip", images="generated"),
            r"train\.fiq\.clip\.positives: both needs a bank of annotated",
        ),
        (entry("train", "fiq", "zs", positives="both"), r"train\.fiq\.zs\.positives: both needs a bank of annotated"),
        (
            entry("bank", "cirr", "zs_cc", images="annotated"),
            r"bank\.cirr\.zs_cc\.images: caption\.cirr\.pool\.zs_cc draws",
        ),
        (entry("triplets", "cirr", "zs_cc", refer=True), r"triplets\.cirr\.zs_cc\.refer: no annotated triplet names"),
        (
            entry("checkpoint", "fiq", "zs", source="path"),
            r"checkpoint\.fiq\.zs\.source: path needs models\.fiq\.stage1\.zs",
        ),
        (
            lambda content: content["caption"]["fiq"]["words"].update(zs_cc=3),
            r"caption\.fiq: 'zs_cc' is in words and in pool",
        ),
        (
            run(models=["clip", "clp"]),
            r"run\.models: 'clp' has no entry in models\.demo_fiq\.stage1, caption\.demo_fiq",
        ),
        (run(datasets=["demo_fiqq"], submit=[]), r"run\.datasets: 'demo_fiqq' is not in datasets \(.*demo_fiq"),
        (
            lambda content: content["match"].pop("demo_fiq"),
            r"run\.datasets: 'demo_fiq' has no entry in match; copy that",
        ),
        (
            lambda content: content["train"]["demo_fiq"].pop("clip"),
            r"run\.models: 'clip' has no entry in train\.demo_fiq; check the name",
        ),
        (
            lambda content: content["match"]["demo_fiq"]["window"].pop("clip"),
            r"run\.models: 'clip' has no entry in match\.demo_fiq\.window; check",
        ),
        (run(submit=["cirr"]), r"run\.submit: 'cirr' is not in run\.datasets, so nothing trains its weights"),
        (
            run(benchmarks=[{"name": "circa", "weights": "demo_cirr"}]),
            r"run\.benchmarks: 'circa' is not in benchmarks \(.*circo",
        ),
        (
            run(benchmarks=[{"name": "circo", "weights": "cirr"}]),
            r"run\.benchmarks: circo takes weights of 'cirr', which is",
        ),
        (
            run(benchmarks=[{"name": "circo", "weights": "demo_cirr"}] * 2),
            r"run\.benchmarks: 'circo with the weights of demo_cirr' is listed 2 times; list it once",
        ),
        (
            run(datasets=["demo_fiq", "demo_fiq"], submit=[]),
            r"run\.datasets: 'demo_fiq' is listed 2 times; list it once",
        ),
        (run(models=["clip", "zs", "clip", "clip"]), r"run\.models: 'clip' is listed 3 times; list it once"),
        (run(submit=["demo_cirr", "demo_cirr"]), r"run\.submit: 'demo_cirr' is listed 2 times; list it once"),
        *(
            (undefined(section), rf"{section}: 'nowhere' is not in datasets \(.*demo_fiq.*\); add")
            for section in SECTIONS
        ),
        *(
            (
                family_of(section, key),
                rf"{section}\.fiq\.{key}: 'clp' is no family with settings of fiq \(.*clip.*\); check the name",
            )
            for section, key in (("caption", "words"), ("caption", "pool"), ("match", "window"), ("models", "stage1"))
        ),
        (
            entry("triplets", "fiq", "clip", source="none"),
            r"triplets\.fiq\.clip\.source: none generates no triplets, which train\.fiq\.clip\.positives needs",
        ),
        (
            entry("triplets", "fiq", "zs", source="none"),
            r"triplets\.fiq\.zs\.source: none generates no triplets, which checkpoint\.fiq\.zs\.positives needs",
        ),
        (
            model("demo_fiq", "captioner"),
            r"triplets\.demo_fiq\.clip\.source: make needs models\.demo_fiq\.captioner, which is",
        ),
        (
            model("demo_cirr", "encoder"),
            r"triplets\.demo_cirr\.clip\.source: make needs models\.demo_cirr\.encoder, which is",
        ),
        (
            served_captioner,
            r"models\.demo_fiq\.captioner\.served: 'gpu' is not in machine\.endpoints \(known: none\); add",
        ),
        (served_writer, r"triplets\.demo_cirr\.clip\.llm\.served: 'gpu' is not in machine\.endpoints"),
        (served_reranker, r"adjust\.demo_cirr\.clip\.rerank\.by\.served: 'gpu' is not in machine\.endpoints"),
        (window([0.4, 1.2]), r"window\.clip of shares is \[lo, hi\) with 0 <= lo < hi <= 1, got \[0\.4, 1\.2\]"),
        (window([0.8, 0.4]), r"window\.clip of shares"),
        (window([-0.5, 0.4]), r"window\.clip of shares"),
        (window([0, 1]), r"window\.clip is \[lo, hi\) with 1 <= lo < hi"),
    ],
)
def test_what_cannot_be_meant_is_refused(change: Edit, problem: str) -> None:
    with pytest.raises(InputError, match=rf"^p: .*{problem}") as raised:
        parse_params(edited(change), "p")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ([0.4, 0.8], (0.4, 0.8)),
        ([0.4, 1], (0.4, 1.0)),
        ([0, 0.5], (0.0, 0.5)),
        ([1.0e4, 2.0e4], (10_000, 20_000)),
        ([5, 9], (5, 9)),
        (None, None),
    ],
)
def test_windows_are_ranks_or_shares(value: Any, read: Any) -> None:
    """Whole numbers above 1 are ranks, however they are written."""
    found = parse_params(edited(window(value)), "p").match["fiq"].window["clip"]
    assert found == read
    assert found is None or [type(end) for end in found] == [type(end) for end in read]


@pytest.mark.parametrize(
    "change",
    [
        entry("train", "fiq", "clip", positives="generated"),
        entry("checkpoint", "fiq", "clip", positives="generated"),
        run(datasets=["fiq", "cirr"], models=["zs_cc", "blip2"], submit=["cirr"]),
        run(benchmarks=[{"name": "circo", "weights": "demo_cirr"}, {"name": "genecis", "weights": "demo_fiq"}]),
        run(benchmarks=[{"name": "circo", "weights": name} for name in ("demo_cirr", "demo_fiq")]),
        run(datasets=[], submit=[]),
        without_generated,
        filtered_without_generated,
        all_served,
        served_and_not_asked,
        model("fiq", "captioner"),  # it is not in run.datasets
        lambda content: content["train"]["fiq"].pop("blip"),
    ],
)
def test_what_can_be_meant_is_not(change: Edit) -> None:
    parse_params(edited(change), "p")
