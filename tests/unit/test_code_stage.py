"""The stage `code`: a file for each stage, data set and family, with the modules of only its layout and family."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import stages.code
from spn4cir.composers import COMPOSERS
from spn4cir.config.adjustments import Adjustments, Rerank, RerankByModel
from spn4cir.config.load import load_params
from spn4cir.config.params import Params, ScoredBenchmark, ServedCaptioner
from spn4cir.config.positives import Llm
from spn4cir.datasets import LAYOUTS
from spn4cir.errors import InputError
from stages.common import Job
from stages.fingerprint import Sources

ROOT = Path(__file__).parents[2]
SOURCES = Sources(ROOT)
TRAINED = {"fashioniq": "fiq", "cirr": "cirr", "folder": "own", "table": "rows"}
SCORED = {"circo": "of_circo", "genecis": "of_genecis"}
REGISTERED = {target.split(":")[0] for target in [*LAYOUTS.values(), *(e.target for e in COMPOSERS.values())]}


def settings(**run: Any) -> Params:
    """The published settings with a data set of each layout, all families, and benchmarks; `run` is not checked."""
    params = load_params(ROOT / "params.yaml")
    sets, (scored, *_) = params.datasets.values(), params.benchmarks.values()
    trained = next(iter(sets))
    chosen = {
        "datasets": tuple(TRAINED.values()),
        "models": tuple(COMPOSERS),
        "submit": ("cirr",),
        "benchmarks": tuple(
            ScoredBenchmark(name=name, weights=weights) for name in SCORED.values() for weights in ("fiq", "cirr")
        ),
    } | run
    return params.model_copy(
        update={
            "datasets": {name: trained.model_copy(update={"layout": layout}) for layout, name in TRAINED.items()},
            "benchmarks": {name: scored.model_copy(update={"layout": layout}) for layout, name in SCORED.items()},
            "run": params.run.model_copy(update=chosen),
        }
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[str]]]:
    """The paths that each written file lists."""
    place = tmp_path_factory.mktemp("code")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        stages.code.main(Job(settings()))
        files = [path for path in Path("data/code").rglob("*") if path.is_file()]
        yield {str(path): [line.split()[1] for line in path.read_text().splitlines()] for path in files}


def test_each_item_of_each_stage_has_a_file(written: dict[str, list[str]]) -> None:
    """The files are exactly those that the stages of dvc.yaml depend on, expanded by its matrices."""
    wanted, run = set(), settings().run
    lists = {"${run.datasets}": run.datasets, "${run.models}": run.models, "${run.submit}": run.submit}
    for name, content in YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"].items():
        if name == "code":
            continue
        (template,) = [dep for dep in content["deps"] if dep.startswith("data/code/")]
        values = [
            [(f"item.{key}.name", b.name) for b in run.benchmarks]
            if key == "benchmark"
            else [(f"item.{key}", v) for v in lists[value]]
            for key, value in content["matrix"].items()
        ]
        for item in product(*values):
            path = template
            for key, value in item:
                path = path.replace(f"${{{key}}}", value)
            wanted.add(path)
    assert wanted == written.keys()


def test_no_module_of_another_layout_or_family_is_in_a_file(written: dict[str, list[str]]) -> None:
    """A module of another layout or family is listed only if the chosen one imports it."""
    layouts = {name: layout for layout, name in (TRAINED | SCORED).items()}
    for place, paths in written.items():
        dataset, _, family = Path(place).stem.partition("-")
        family = stages.code.OF_DATASET.get(Path(place).parent.name, family)
        own = [LAYOUTS[layouts[dataset]], *([COMPOSERS[family].target] if family else [])]
        modules = [target.split(":")[0] for target in own]
        allowed = {path.as_posix() for m in modules for path in SOURCES.closure(m, frozenset(REGISTERED))}
        others = {f"{name.replace('.', '/')}.py" for name in REGISTERED} - allowed
        assert not others & set(paths), place
        assert f"{modules[0].replace('.', '/')}.py" in paths, place
        assert paths == sorted(set(paths))


REPORT_PARTS = ("base.html", "macros.html", "page.html", "style.css", "script.js")


@pytest.mark.parametrize(
    ("place", "within", "without"),
    [
        (
            "train/fiq-clip",
            ["datasets/fashioniq.py", "composers/clip.py", "evaluation/ranking.py"],
            ["composers/qformer.py"],
        ),
        (
            "train/cirr-blip2",
            ["datasets/cirr.py", "composers/qformer.py"],
            ["datasets/fashioniq.py", "positives/llava.py"],
        ),
        ("train/cirr-zs", ["composers/clip.py"], ["composers/tgcir.py"]),
        ("bank/fiq-clip", ["training/bank.py"], ["evaluation/ranking.py", "training/stage2.py"]),
        (
            "gallery/fiq-clip",
            ["evaluation/stored_gallery.py", "datasets/fashioniq.py"],
            ["evaluation/ranking.py", "training/bank.py"],
        ),
        ("caption/fiq", ["positives/llava.py", "datasets/cc3m.py"], ["composers/__init__.py"]),
        (
            "report/fiq-clip",
            ["comparison/paper.json", *(f"report/{name}" for name in REPORT_PARTS)],
            ["training/bank.py"],
        ),
        ("benchmark/of_circo-clip", ["datasets/circo.py"], ["datasets/genecis.py", "datasets/cirr.py"]),
    ],
)
def test_what_some_stages_run(written: dict[str, list[str]], place: str, within: list[str], without: list[str]) -> None:
    paths = written[f"data/code/{place}.txt"]
    assert [name for name in within if f"spn4cir/{name}" not in paths] == []
    assert [name for name in without if f"spn4cir/{name}" in paths] == []
    assert f"stages/{place.split('/')[0]}.py" in paths
    assert not {"stages/fingerprint.py", "stages/code.py"} & set(paths)


LLM = {"served": "local", "model": "m", "sees": "captions", "prompt": "{reference} {target}", "temperature": 0}


def test_the_code_of_a_language_model_is_only_in_the_triplets_that_it_writes(
    written: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of templates is the same, bytes included, whether or not other triplets are written by a model."""
    monkeypatch.chdir(tmp_path)
    params = settings(datasets=("fiq", "cirr"), submit=(), benchmarks=())
    stages.code.main(Job(params))
    place = Path("data/code/triplets")
    templates = {path.name: path.read_text() for path in place.iterdir()}
    llm = Llm.model_validate(LLM | {"max_tokens": 30})
    changed = params.triplets["fiq"]["clip"].model_copy(update={"writer": "llm", "llm": llm})
    families = {**params.triplets["fiq"], "clip": changed}
    stages.code.main(Job(params.model_copy(update={"triplets": {**params.triplets, "fiq": families}})))
    found = {path.name: path.read_text() for path in place.iterdir()}
    assert {name for name, text in found.items() if text != templates[name]} == {"fiq-clip.txt"}
    added = {"stages/llm_writer.py", "spn4cir/positives/llm_texts.py", "spn4cir/served/urls.py"}
    paths = {name: {line.split()[1] for line in text.splitlines()} for name, text in found.items()}
    assert added <= paths["fiq-clip.txt"]
    others = paths["cirr-clip.txt"].union(*written.values())
    assert [path for path in others if "llm" in path or "served" in path] == []


def test_the_code_of_a_served_reranker_is_only_in_the_scores_that_it_makes(
    written: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    params = settings(datasets=("fiq", "cirr"), submit=(), benchmarks=())
    by = RerankByModel(served="local", model="m", prompt="{text}?")
    changed = Adjustments(hubness=None, rerank=Rerank(top=5, by=by, share=1.0))
    families = {**params.adjust["fiq"], "clip": changed}
    stages.code.main(Job(params.model_copy(update={"adjust": {**params.adjust, "fiq": families}})))
    place = Path("data/code/validate")
    found = {path.name: [line.split()[1] for line in path.read_text().splitlines()] for path in place.iterdir()}
    assert found["cirr-clip.txt"] == written["data/code/validate/cirr-clip.txt"]
    added = set(found["fiq-clip.txt"]) - set(written["data/code/validate/fiq-clip.txt"])
    assert {"stages/served_reranker.py", "spn4cir/evaluation/rerank_served.py", "spn4cir/served/urls.py"} <= added


def test_the_code_of_a_captioner_is_only_in_the_captions_that_it_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of a captioner that runs here is the same, bytes included, whether or not another one is served."""
    monkeypatch.chdir(tmp_path)
    params = load_params(ROOT / "params.yaml")
    params = params.model_copy(
        update={"run": params.run.model_copy(update={"datasets": ("fiq", "cirr", "demo_emoji")})}
    )
    stages.code.main(Job(params))
    place = Path("data/code/caption")
    before = {path.name: path.read_text() for path in place.iterdir()}
    served = params.models["fiq"].model_copy(update={"captioner": ServedCaptioner(served="local", model="m")})
    stages.code.main(Job(params.model_copy(update={"models": {**params.models, "fiq": served}})))
    after = {path.name: path.read_text() for path in place.iterdir()}
    assert {name for name, text in after.items() if text != before[name]} == {"fiq.txt"}
    kinds = {"spn4cir/positives/llava.py": "llava", "spn4cir/served/urls.py": "served"}
    found = {
        name: {kind for path, kind in kinds.items() if path in {line.split()[1] for line in text.splitlines()}}
        for name, text in after.items()
    }
    assert found == {"fiq.txt": {"served"}, "cirr.txt": {"llava"}, "demo_emoji.txt": set()}


def test_every_data_set_and_family_of_the_settings_can_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data sets have the layouts of the published settings."""
    monkeypatch.chdir(tmp_path)
    params = load_params(ROOT / "params.yaml")
    weights = next(iter(params.datasets))
    chosen = {
        "datasets": tuple(params.datasets),
        "models": tuple(COMPOSERS),
        "benchmarks": tuple(ScoredBenchmark(name=name, weights=weights) for name in params.benchmarks),
    }
    params = params.model_copy(update={"run": params.run.model_copy(update=chosen)})
    stages.code.main(Job(params))
    assert len(list(Path("data/code/train").iterdir())) == len(params.datasets) * len(COMPOSERS)
    assert len(list(Path("data/code/benchmark").iterdir())) == len(params.benchmarks) * len(COMPOSERS)


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ({"models": ("clip", "clap")}, r"family 'clap' is not known; choose one of: clip, "),
        ({"datasets": ("unknown",)}, r"params\.yaml: datasets\.unknown is not set"),
        (
            {"benchmarks": (ScoredBenchmark(name="unknown", weights="fiq"),)},
            r"params\.yaml: benchmarks\.unknown is not set",
        ),
    ],
)
def test_what_the_settings_do_not_define_is_named_and_the_files_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: dict[str, Any], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/code").mkdir(parents=True)
    (tmp_path / "data/code/kept.txt").write_text("kept")
    with pytest.raises(InputError, match=said):
        stages.code.main(Job(settings(**run)))
    assert [path.name for path in (tmp_path / "data/code").iterdir()] == ["kept.txt"]
