"""The settings of a training without a project: the published ones, with values that the caller gives."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from spn4cir.config.base import first_problem
from spn4cir.config.load import find_params
from spn4cir.config.params import Validate, of_family
from spn4cir.config.training import BankSettings, Optimisation, Train
from spn4cir.errors import InputError

# The data set whose published settings apply to other images too, as for `validate` in any folder.
_DATASET = "fiq"

Pair = tuple[Any, Any] | None
Stage = TypeVar("Stage", bound=Optimisation)


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of both stages, of the bank and of the validation.

    Attributes:
        stage1: the first stage; None: it is left out.
        bank: the bank.
        stage2: the second stage; None: it is left out.
        validate: the evaluation protocol.
    """

    stage1: Optimisation | None
    bank: BankSettings
    stage2: Train | None
    validate: Validate


def training_settings(family: str, triplets: int, pairs: Mapping[str, Pair]) -> TrainingSettings:
    """Returns the published settings of a family for FashionIQ, with the given values.

    Args:
        family: the family of the network.
        triplets: number of training triplets; a published batch size is lowered to it.
        pairs: for some settings, the values of both stages; None: the published ones. With 0 epochs, a stage is left
            out.

    Raises:
        InputError: a value is no pair or is not valid, or both stages are left out.
    """
    params = find_params(Path.cwd())
    for name, pair in pairs.items():
        if pair is not None and not (isinstance(pair, (tuple, list)) and len(pair) == 2):
            raise InputError(f"{name} is {pair!r}; give two values: of stage 1 and of stage 2")
    first = of_family(params.checkpoint, _DATASET, family, "checkpoint").train
    second = of_family(params.train, _DATASET, family, "train")
    given = [{name: pair[stage] for name, pair in pairs.items() if pair is not None} for stage in (0, 1)]
    stage1 = _changed(first, 1, triplets, given[0])
    stage2 = _changed(second, 2, triplets, given[1])
    if stage1 is None and stage2 is None:
        raise InputError("epochs is 0 for both stages; train at least one of them")
    return TrainingSettings(
        stage1,
        of_family(params.bank, _DATASET, family, "bank"),
        stage2,
        of_family(params.validate_, _DATASET, family, "validate"),
    )


def _changed(settings: Stage, stage: int, triplets: int, given: Mapping[str, Any]) -> Stage | None:
    if given.get("epochs") == 0:
        return None
    fitting = {"batch_size": min(settings.batch_size, triplets)}
    try:
        return type(settings).model_validate(settings.model_dump() | fitting | dict(given))
    except ValidationError as error:
        raise InputError(f"stage {stage}: {first_problem(error)}") from None
