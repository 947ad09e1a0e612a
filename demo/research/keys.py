"""Hashes of everything that the results of a run are computed from."""

from __future__ import annotations

import json
import shlex
from copy import deepcopy
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from demo.research.rows import ResearchTable, drawing
from demo.settings import PARAMS_FILE as DRAW_PARAMS_FILE
from spn4cir.config.load import parse_params
from spn4cir.config.pair_settings import pair_settings
from spn4cir.config.params import PARAMS_FILE, Params
from spn4cir.files import value_hash
from stages.code import OF_DATASET, OF_PAIR, others
from stages.fingerprint import Sources

ROOT = Path(__file__).parents[2]
# Stages and sections that do not affect the ranks.
_AFTER = frozenset({"baselines", "report"})
_DEMO_STAGES = Path("demo/dvc.yaml")
# Sections of the demo's settings that belong to one data set, to no data set, or to families of other models.
_NOT_SHARED = frozenset({"drawn", "fetched", "draw", "draw_pool", "blip", "blip2"})


class Keys:
    """Computes the keys of runs from the files of the workspace as they are at the start."""

    def __init__(self, table: ResearchTable) -> None:
        self._table = table
        self._sources = Sources(ROOT)
        files = (Path(PARAMS_FILE), DRAW_PARAMS_FILE, _DEMO_STAGES)
        self._params, self._demo, stages = (YAML(typ="safe").load(path) for path in files)
        words = shlex.split(stages["stages"]["code"]["cmd"])
        self._demo_modules = words[words.index("--out") + 2 :]
        self._shared = lru_cache(maxsize=None)(self._of_run)
        self._code = lru_cache(maxsize=None)(self._of_code)

    def key(self, run: str, dataset: str, seed: int, draw: int) -> str:
        """Returns the key of a run on a data set. Raises InputError for settings that are not valid."""
        return value_hash([self._shared(run, dataset, draw), seed])[:16]

    def _of_run(self, run: str, dataset: str, draw: int) -> str:
        params = self.params(run, dataset)
        family = self._table.rows[run].family
        settings = {
            ".".join(path): value
            for path, value in pair_settings(params, dataset, family).items()
            if path[0] not in (*_AFTER, "seed")
        }
        layout = params.datasets[dataset].layout
        return value_hash([settings, self._code(layout, family), self._drawn(dataset, draw)])

    def params(self, run: str, dataset: str) -> Params:
        """Returns the settings of a run. Raises InputError for a setting that is not valid."""
        content = deepcopy(self._params)
        for path, value in self._table.settings(run, dataset).items():
            reduce(lambda section, name: section.setdefault(name, {}), path[:-1], content)[path[-1]] = value
        return parse_params(json.dumps(content), f"the settings of row '{run}' for {dataset}")  # JSON is YAML

    def _of_code(self, layout: str, family: str) -> str:
        stages = [stage for stage in (*OF_DATASET, *OF_PAIR) if stage not in _AFTER]
        left_out = {stage: others(layout, OF_DATASET.get(stage, family)) for stage in stages}
        own = [self._sources.fingerprint(f"stages.{stage}", left_out[stage]) for stage in stages]
        return value_hash([*own, *(self._sources.fingerprint(f"demo.{module}") for module in self._demo_modules)])

    def _drawn(self, dataset: str, draw: int) -> dict[str, Any]:
        own = {section: self._demo[section].get(dataset) for section in ("draw", "draw_pool")}
        changed = {
            ".".join(path): value for path, value in drawing(self._table, [dataset], draw).items() if path[0] == "draw"
        }
        shared = {name: section for name, section in self._demo.items() if name not in _NOT_SHARED}
        return {**shared, **own, "changed": changed}
