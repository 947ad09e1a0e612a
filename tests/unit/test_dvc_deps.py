"""Each stage's declared deps are the files that it runs, and its params exist."""

import re
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from spn4cir.composers import COMPOSERS
from stages.fingerprint import import_closure

ROOT = Path(__file__).parents[2]
FAMILY = "spn4cir/composers/${item.family}.py"
DRAWN = ["demo_fiq", "demo_cirr", "demo_circo"]


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


@pytest.mark.parametrize(("file", "content"), list(stages()))
def test_declared_code_is_the_import_closure(file: str, content: Any) -> None:
    """An edit in a module reruns exactly the stages that import it."""
    assert modules(content), "the stage runs no module: python -m ..."
    needed = {path.as_posix() for module in modules(content) for path in import_closure(module, ROOT)}
    families = {f"{entry.target.split(':')[0].replace('.', '/')}.py" for entry in COMPOSERS.values()}
    if needed & families and "family" in content.get("matrix", {}):
        needed = (needed - families) | {FAMILY}
    deps = [dep if isinstance(dep, str) else next(iter(dep)) for dep in content["deps"]]
    declared = [place(dep, file, content) for dep in deps if dep.endswith(".py")]
    assert len(declared) == len(set(declared)), "a dep stands there twice"
    assert set(declared) == needed, (
        f"add to deps: {sorted(needed - set(declared))}; remove: {sorted(set(declared) - needed)}"
    )


def lookup(values: Any, key: str) -> bool:
    for part in key.split("."):
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True


def items(content: Any, params: Any) -> Iterator[dict[str, str]]:
    """What the matrix of a stage stands for; for the data sets that no default run names too."""
    matrix = content.get("matrix", {})
    known = {**{f"run.{name}": values for name, values in params["run"].items()}, "drawn": DRAWN}
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
    """For every item of the matrix; a file of its own where one is named."""
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
    scripts = [path for path in import_closure(module, ROOT) if path.parts[0] == "stages" and path.stem != "common"]
    text = "\n".join((ROOT / path).read_text(encoding="utf-8") for path in scripts)
    read = {name.rstrip("_") for name in re.findall(r"\bjob\.params\.(\w+)", text)}
    return read | ({"datasets"} if "job.layout()" in text else set())


@pytest.mark.parametrize(("file", "content"), [stage for stage in stages() if stage.values[0] == "dvc.yaml"])
def test_the_params_that_a_stage_reads_are_declared(file: str, content: Any) -> None:
    """All but `machine`, which decides no result; where nothing is declared, a changed value would rerun nothing."""
    declared = {key.split(".")[0] for key in content.get("params", [])}
    (module,) = modules(content)
    assert declared == sections_read(module) - {"machine"}
