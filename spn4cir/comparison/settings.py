"""The settings of runs, from the `params.yaml` of their projects, and those in which runs differ."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from spn4cir.comparison.runs import Place, Run
from spn4cir.config.load import parse_params
from spn4cir.config.pair_settings import pair_settings, short_key
from spn4cir.config.params import PARAMS_FILE, Params, of_dataset
from spn4cir.errors import InputError

Values = Mapping[str, str]


class RecordedSettings(NamedTuple):
    """The settings of a run.

    Attributes:
        values: the value of each key as JSON; keys are those of `spn4cir settings`, as in `train.tau`.
        unknown: why there are none; empty if they are known.
    """

    values: Values
    unknown: str = ""


def run_settings(run: Run) -> RecordedSettings:
    """The settings of a run's data set and family in the `params.yaml` of its revision or project.

    The settings of a benchmark are its own and those of the data set whose weights are scored.
    """
    try:
        text = run.read(f"../../{PARAMS_FILE}").decode("utf-8", errors="replace")
    except InputError:
        return RecordedSettings({}, f"{run.label}: has no {PARAMS_FILE} two folders above")
    try:
        return RecordedSettings(dict(_flat(_place_settings(parse_params(text, PARAMS_FILE), run.place))))
    except InputError as error:
        return RecordedSettings({}, f"{run.label}: {error}")


def protocol_values(run: Run) -> Values:
    """The entries of the protocol in a run's metrics file, as JSON; keys as in `protocol.reference`."""
    return dict(_flat({"protocol": run.metrics["protocol"]}))


def differing(sides: Sequence[Values]) -> dict[str, tuple[str, ...]]:
    """The keys whose values are not equal on all sides, with the value of each side; empty where a side has none."""
    found = {key: tuple(values.get(key, "") for values in sides) for values in sides for key in values}
    return {key: values for key, values in found.items() if len(set(values)) > 1}


def _place_settings(params: Params, place: Place) -> dict[str, Any]:
    """Settings by short key. Raises InputError where `params.yaml` has none of that data set or family."""
    dataset, family = place
    if dataset not in params.benchmarks:
        pair = pair_settings(params, dataset, family)
        return {".".join(short_key(path, family)): value for path, value in pair.items()}
    own = {"benchmarks": of_dataset(params.benchmarks, dataset, "benchmarks").model_dump(by_alias=True)}
    weights = next((scored.weights for scored in params.run.benchmarks if scored.name == dataset), None)
    return own if weights is None else own | _place_settings(params, (weights, family))


def _flat(content: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for key, value in content.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", json.dumps(value, ensure_ascii=False)
