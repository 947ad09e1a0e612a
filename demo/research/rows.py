"""The rows of `make research`, their settings and the commands that run them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML

from demo import experiments
from demo.settings import PARAMS_FILE as DRAW_PARAMS_FILE
from spn4cir.config.base import Positive, Settings
from spn4cir.errors import InputError
from spn4cir.projects.named_recipes import AS_PUBLISHED, recipe_settings, setting_path
from spn4cir.projects.set_values import KeyPath

ROWS_FILE = Path(__file__).with_name("rows.yaml")
STAGE1 = "stage1"
# The difference between the drawing seeds of two draws of a data set.
_DRAWS_APART = 1000


class ResearchRow(Settings):
    """A row of the table.

    Attributes:
        means: what the row is, for the page.
        family: family of the trained network.
        settings: settings that differ from the published ones, by keys such as `train.negatives`.
        recipe: name of the recipe whose settings the row has besides.
        of: row whose run contains the answers of this row; None for a row that is trained.
        answer: `stage1`, or the name of an adjusted ranking of that run.
        trial: whether the row is compared only on other draws of the data sets.
    """

    means: str
    family: str = "clip"
    settings: Mapping[str, Any] = {}
    recipe: str | None = None
    of: str | None = None
    answer: str | None = None
    trial: bool = False


class ComparedData(Settings):
    """A data set of the comparison.

    Attributes:
        scores: names of the scores in the tables; the last one is that of the verdicts.
        steps: optimiser steps of an epoch of stage 2 by family.
        draw: sizes that differ from those of the demo (`draw.<data set>` of `demo/params.yaml`).
        made_by: list of `demo/params.yaml` by which the data set is made.
    """

    scores: tuple[str, ...] = Field(min_length=1)
    steps: Mapping[str, Positive]
    draw: Mapping[str, int] = {}
    made_by: str = "drawn"


class ResearchTable(Settings):
    """The content of `rows.yaml`."""

    references: Mapping[str, tuple[str, ...]]
    datasets: Mapping[str, ComparedData]
    every: Mapping[str, Any]
    rows: Mapping[str, ResearchRow]

    @model_validator(mode="after")
    def _names_rows(self) -> Self:
        named = [name for names in self.references.values() for name in names]
        for name in (*named, *(row.of for row in self.rows.values() if row.of)):
            if name not in self.rows or (name not in named and self.rows[name].of):
                raise ValueError(f"'{name}' is not a row that is trained; the rows are {', '.join(self.rows)}")
        for name, row in self.rows.items():
            if (row.of is None) != (row.answer is None):
                raise ValueError(f"row '{name}': give both `of` and `answer`, or neither")
            if row.family not in self.references:
                raise ValueError(f"row '{name}': references has no entry for its family '{row.family}'")
        return self

    def run_of(self, name: str) -> str:
        """Returns the row whose run contains the answers of a row."""
        return self.rows[name].of or name

    def answers(self, run: str) -> dict[str, str | None]:
        """Returns the rows whose answers a run contains, with the name of the answer; None for the trained weights."""
        return {name: row.answer for name, row in self.rows.items() if self.run_of(name) == run}

    def settings(self, run: str, dataset: str) -> dict[KeyPath, Any]:
        """Returns the settings of a run for a data set, by key path in `params.yaml`, without the seed."""
        row = self.rows[run]
        short = dict(self.every) | self._steps(dataset, row.family)
        short |= _recipe(row)
        for name in self.answers(run):
            short |= self.rows[name].settings
        return {setting_path(key, dataset, row.family): value for key, value in short.items()}

    def described(self, name: str) -> str:
        """Returns the settings in which a row differs from the published recipe, as text."""
        row = self.rows[name]
        return ", ".join(f"{key}={_text(value)}" for key, value in {**_recipe(row), **row.settings}.items())

    def _steps(self, dataset: str, family: str) -> dict[str, Any]:
        steps = self.datasets[dataset].steps
        if family not in steps:
            raise InputError(f"{ROWS_FILE}: datasets.{dataset}.steps: has no number of steps for '{family}'; add it")
        return {"train.epoch_steps": steps[family]}


def _recipe(row: ResearchRow) -> dict[str, Any]:
    """Returns the settings of a row's recipe; those of `params.yaml` are the published ones."""
    settings = recipe_settings(row.recipe, row.family) if row.recipe else {}
    return {key: value for key, value in settings.items() if value != AS_PUBLISHED}


def read_table(path: Path = ROWS_FILE) -> ResearchTable:
    """Reads the rows. Raises InputError that names the first wrong key."""
    try:
        return ResearchTable.model_validate(YAML(typ="safe").load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def run_name(run: str, seed: int, draw: int) -> str:
    """Returns the name of a run's experiment, as in `research-p-n-1`."""
    slug = re.sub(r"[^a-z0-9.]+", "-", run.lower().replace("+", " plus ")).strip("-")
    return f"research-{slug}-{seed}" + (f"-draw{draw}" if draw > 1 else "")


def command(table: ResearchTable, run: str, seed: int, draw: int, datasets: Sequence[str]) -> list[str]:
    """Returns the command of a run's experiment, which changes the workspace of a clone.

    Args:
        table: the rows.
        run: name of a trained row.
        seed: seed of the matched pairs, stage 1 and stage 2.
        draw: number of the draw of the data sets, from 1; 1 is the demo's.
        datasets: the data sets.
    """
    settings = {
        "seed": str(seed),
        "run.datasets": f"[{','.join(datasets)}]",
        "run.models": f"[{table.rows[run].family}]",
        "run.submit": "[]",
        "machine.workers": "0",  # each run has one core
    }
    for dataset in datasets:
        settings |= {"++" + ".".join(path): _text(value) for path, value in table.settings(run, dataset).items()}
    for path, value in drawing(table, datasets, draw).items():
        settings[f"{DRAW_PARAMS_FILE}:{'.'.join(path)}"] = _text(value)
    return experiments.command(run_name(run, seed, draw), settings, ["validate"], in_workspace=True)


def drawing(table: ResearchTable, datasets: Sequence[str], draw: int) -> dict[KeyPath, Any]:
    """Returns the settings of `demo/params.yaml` that the runs change, by key path.

    Args:
        table: the rows.
        datasets: the data sets that are drawn.
        draw: number of the draw, from 1; each draw has a seed of its own.
    """
    params = YAML(typ="safe").load(DRAW_PARAMS_FILE.read_text(encoding="utf-8"))
    changed: dict[KeyPath, Any] = {}
    for name in datasets:
        data = table.datasets[name]
        made: list[str] = changed.get((data.made_by,), params[data.made_by])
        if name not in made:
            changed[data.made_by,] = [*made, name]
        changed |= {("draw", name, key): value for key, value in data.draw.items()}
        if draw > 1:
            changed["draw", name, "seed"] = params["draw"][name]["seed"] + _DRAWS_APART * (draw - 1)
    return changed


def _text(value: Any) -> str:
    """Returns a value as `dvc exp run -S` accepts it."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}:{_text(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_text, value)) + "]"
    return value if isinstance(value, str) else json.dumps(value)
