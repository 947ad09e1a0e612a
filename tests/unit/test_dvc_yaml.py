"""What the stages of dvc.yaml depend on: their code, and params that exist."""

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from spn4cir.config.defaults import DEFAULTS
from spn4cir.config.load import load_params
from spn4cir.config.pair_settings import pair_settings
from stages.fingerprint import Sources

ROOT = Path(__file__).parents[2]
SOURCES = Sources(ROOT)
DRAWN = ["demo_fiq", "demo_cirr", "demo_circo"]
FETCHED = ["demo_emoji"]


@cache
def load(path: Path) -> Any:
    return YAML(typ="safe").load(path.read_text(encoding="utf-8"))


def stages() -> Iterator[Any]:
    """Every stage that runs one of the project's modules: its file, name and content."""
    for name in ("dvc.yaml", "demo/dvc.yaml"):
        if (ROOT / name).is_file():
            for stage, content in load(ROOT / name)["stages"].items():
                yield pytest.param(name, content, id=f"{name}:{stage}")


def modules(content: Any) -> list[str]:
    """Modules that a stage's commands run."""
    commands = content["cmd"] if isinstance(content["cmd"], list) else [content["cmd"]]
    return [found.group(1) for command in commands if (found := re.match(r"python -m ([\w.]+)", command))]


def place(path: str, file: str, content: Any) -> str:
    """A declared path, from the repository's root."""
    folder = (ROOT / file).parent / content.get("wdir", ".")
    return (folder / path).resolve().relative_to(ROOT).as_posix()


def names(content: Any, key: str) -> list[str]:
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in content.get(key, [])]


def own_stages() -> Iterator[Any]:
    """Every stage but those that write the code files."""
    return (stage for stage in stages() if not stage.id.endswith(":code"))


@pytest.mark.parametrize(("file", "content"), list(own_stages()))
def test_a_stage_depends_on_the_file_of_its_own_code(file: str, content: Any) -> None:
    """The file is named after what the command runs and the item of the matrix; no module is named beside it."""
    (command,) = [content["cmd"]]
    module = modules(content)[0]
    items = re.findall(r"\$\{item\.[\w.]+\}", command.split(" --")[0]) if file == "dvc.yaml" else []
    items = [item for item in items if item != "${item.benchmark.weights}"]
    folder = "data/code" if file == "dvc.yaml" else "data/code_demo"
    name = module.split(".", 1)[1]
    expected = f"{folder}/{name}/{'-'.join(items)}.txt" if items else f"{folder}/{name}.txt"
    others = [dep for dep in names(content, "deps") if dep != expected]
    assert len(others) == len(content["deps"]) - 1
    assert [dep for dep in others if not dep.startswith(("data/", "metrics/")) or dep.startswith("data/code")] == []


def test_the_code_of_the_root_depends_on_the_packages() -> None:
    code = load(ROOT / "dvc.yaml")["stages"]["code"]
    assert names(code, "deps") == ["spn4cir", "stages"]
    shared = ["run", "datasets", "benchmarks", "models"]
    assert code["params"] == [*shared, "defaults.triplets", "triplets", "defaults.adjust", "adjust"]


def test_the_code_of_the_demo_depends_on_each_module_that_its_stages_run() -> None:
    """A module that a script imports and that no dependency of the stage covers could change unseen."""
    content = load(ROOT / "demo/dvc.yaml")["stages"]
    code = content["code"]
    run = list(dict.fromkeys(modules(stage)[0] for name, stage in content.items() if name != "code"))
    asked = code["cmd"].split("--out data/code_demo ")[1].split()
    assert [f"demo.{name}" for name in asked] == run
    needed = {path.as_posix() for module in ("demo.code", *run) for path in SOURCES.closure(module)}
    deps = names(code, "deps")
    covering = {path: [dep for dep in deps if path == dep or path.startswith(f"{dep}/")] for path in needed}
    assert [path for path, found in covering.items() if len(found) != 1] == ["stages/__init__.py"]
    assert {dep for found in covering.values() for dep in found} == set(deps)


def test_what_the_code_stages_write_is_in_git_and_stays_when_they_fail() -> None:
    for name, out in (("dvc.yaml", "data/code"), ("demo/dvc.yaml", "data/code_demo")):
        assert load(ROOT / name)["stages"]["code"]["outs"] == [{out: {"cache": False, "persist": True}}]
        assert subprocess.run(["git", "check-ignore", "-q", f"{out}/x.txt"], cwd=ROOT).returncode == 1


def lookup(values: Any, key: str) -> bool:
    for part in key.split("."):
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True


def items(content: Any, params: Any) -> Iterator[dict[str, str]]:
    """Returns the items of a stage's matrix, also for data sets that no default run names."""
    matrix = content.get("matrix", {})
    known = {**{f"run.{name}": values for name, values in params["run"].items()}, "drawn": DRAWN, "fetched": FETCHED}
    lists = {
        name: values if isinstance(values, list) else known[values.strip("${}")] for name, values in matrix.items()
    }
    if "benchmark" in lists:  # none is scored by default
        lists["benchmark"] = [{"name": name, "weights": "demo_cirr"} for name in params["benchmarks"]]
    for values in product(*lists.values()):
        item = dict(zip(lists, values, strict=True))
        benchmark = item.pop("benchmark", {})
        yield item | {f"benchmark.{key}": value for key, value in benchmark.items()}


@pytest.mark.parametrize(("file", "content"), list(stages()))
def test_declared_params_exist(file: str, content: Any) -> None:
    """They exist for every item of the matrix, in another file if one is named."""
    params = load(ROOT / "params.yaml")
    for entry in content.get("params", []):
        named = entry.items() if isinstance(entry, dict) else [("params.yaml", [entry])]
        for name, keys in named:
            values = load(ROOT / place(name, file, content))
            for item, key in product(items(content, params), keys or []):
                for label, value in item.items():
                    key = key.replace(f"${{item.{label}}}", value)
                assert lookup(values, key), f"{name} has no {key}"


def sections_read(module: str) -> set[str]:
    """The sections of the settings that a stage's scripts take out of `job.params`, by their texts."""
    scripts = [path for path in SOURCES.closure(module) if path.parts[0] == "stages" and path.stem != "common"]
    text = "\n".join((ROOT / path).read_text(encoding="utf-8") for path in scripts)
    read = {name.rstrip("_") for name in re.findall(r"\bjob\.params\.(\w+)", text)}
    if "pair_settings(job.params" in text:
        read |= {path[0] for path in pair_settings(load_params(ROOT / "params.yaml"), "demo_fiq", "clip")}
    return read | ({"datasets"} if "job.layout()" in text else set())


@pytest.mark.parametrize(("file", "content"), [stage for stage in own_stages() if stage.values[0] == "dvc.yaml"])
def test_the_params_that_a_stage_reads_are_declared(file: str, content: Any) -> None:
    """All but `machine`, which decides no result; where nothing is declared, a changed value would rerun nothing."""
    declared = {key.split(".")[0] for key in content.get("params", [])} - {DEFAULTS}
    (module,) = modules(content)
    assert declared == sections_read(module) - {"machine"}


def after(stage: str, content: dict[str, Any]) -> set[str]:
    """The stages that depend on what a stage writes, directly or through others."""
    outs = [name for key in ("outs", "metrics", "plots") for name in names(content[stage], key)]
    deps = {name: names(other, "deps") for name, other in content.items()}
    # A benchmark names the data set of its weights by another key of the matrix.
    shown = {name: [dep.replace("item.benchmark.weights", "item.dataset") for dep in own] for name, own in deps.items()}
    found = {name for name, own in shown.items() if any(f"{dep}/".startswith(f"{out}/") for dep in own for out in outs)}
    return found.union(*(after(name, content) for name in found))


def readers(section: str, content: dict[str, Any]) -> set[str]:
    """The stages that depend on values or defaults of a section."""
    return {
        name for name, stage in content.items() if any(section in key.split(".")[:2] for key in stage.get("params", []))
    }


def test_a_changed_filter_reruns_the_filter_and_what_comes_after_it() -> None:
    """No network of an earlier stage, and no bank."""
    content = load(ROOT / "dvc.yaml")["stages"]
    assert readers("filter", content) == {"filter", "report"}
    assert after("filter", content) == {"train", "validate", "report", "submit", "benchmark"}


def test_a_changed_adjustment_reruns_no_training() -> None:
    """Scores and the report alone, beside the stage `code`, which takes seconds."""
    content = load(ROOT / "dvc.yaml")["stages"]
    assert readers("adjust", content) == {"code", "validate", "report"}
    assert after("validate", content) == {"report"}
