"""Options that commands share, in groups: a command names the group as a parameter and receives its values together."""

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import wraps
from typing import TYPE_CHECKING, Any, get_type_hints

from spn4cir.cli.application import app, example
from spn4cir.cli.options import (
    Annotations,
    Categories,
    Composition,
    Dataset,
    Device,
    Family,
    Missing,
    TableSettings,
    Tasks,
    TextHeadWidth,
    TokenizerName,
    VisionHeadWidth,
    Workers,
)
from spn4cir.errors import InputError

if TYPE_CHECKING:
    from spn4cir.composers.protocol import Options


@dataclass(frozen=True)
class FamilyOptions:
    """The network of a checkpoint whose text tower is not used."""

    family: Family = None
    vision_head_width: VisionHeadWidth = None
    text_head_width: TextHeadWidth = None

    @property
    def options(self) -> "Options":
        """The values that a checkpoint does not contain."""
        from spn4cir.composers.protocol import Options

        return Options(vision_head_width=self.vision_head_width, text_head_width=self.text_head_width)


@dataclass(frozen=True)
class NetworkOptions(FamilyOptions):
    """The network of a checkpoint."""

    tokenizer: TokenizerName = None

    @property
    def options(self) -> "Options":
        """The values that a checkpoint does not contain, with the vocabulary."""
        return replace(super().options, tokenizer=self.tokenizer)


@dataclass(frozen=True)
class QueryNetworkOptions(NetworkOptions):
    """The network of a checkpoint that composes queries."""

    composition: Composition = None


@dataclass(frozen=True)
class MachineOptions:
    """Device and number of worker processes."""

    device: Device = None
    workers: Workers = None


@dataclass(frozen=True)
class TrainingOptions:
    """Settings of the layout of a data set that has a training split."""

    annotations: Annotations = None
    table: TableSettings = None
    categories: Categories = None

    def given(self) -> dict[str, Any]:
        """The settings of the layout that were given."""
        values = {
            "annotations": str(self.annotations.absolute()) if self.annotations else None,
            "table": table_settings(self.table) if self.table else None,
            "categories": _listed(self.categories),
        }
        return {key: value for key, value in values.items() if value is not None}


@dataclass(frozen=True)
class LayoutOptions(TrainingOptions):
    """Settings of the layout of a data set or benchmark."""

    tasks: Tasks = None

    def given(self) -> dict[str, Any]:
        """The settings of the layout that were given."""
        tasks = _listed(self.tasks)
        return super().given() | ({} if tasks is None else {"tasks": tasks})


@dataclass(frozen=True)
class SettingsOptions:
    """Which settings of `params.yaml` apply, and the rule for missing images."""

    missing: Missing = None
    dataset: Dataset = None


def command(example_call: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers a function as a command of the application; a parameter that is a group becomes the group's options.

    Args:
        example_call: the call that ends the command's help.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        parameters = inspect.signature(function).parameters.values()
        groups: dict[str, Any] = {each.name: each.annotation for each in parameters if is_dataclass(each.annotation)}

        @wraps(function)
        def call(**values: Any) -> None:
            for name, group in groups.items():
                values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
            function(**values)

        options = [option for each in parameters for option in _options(each)]
        call.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
        app.command(epilog=example(example_call))(call)
        return function

    return register


def _options(parameter: inspect.Parameter) -> Iterator[inspect.Parameter]:
    """The parameter, or the options of the group that it is."""
    group = parameter.annotation
    if not is_dataclass(group):
        yield parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        return
    kinds = get_type_hints(group, include_extras=True)
    for field in fields(group):
        yield inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=kinds[field.name]
        )


def _listed(parts: str | None) -> tuple[str, ...] | None:
    """The names of A,B."""
    return None if parts is None else tuple(part.strip() for part in parts.split(",") if part.strip())


def table_settings(values: Sequence[str]) -> dict[str, Any]:
    """Layout table's settings of KEY=VALUE: patterns of paths, and names of columns for all other keys.

    The value of `split` is the split of all rows (`val`, or another keyword such as `validation` or `dev`), or else the
    name of a column.
    """
    from spn4cir.datasets.splits import split_named

    pairs = [value.partition("=") for value in values]
    if wrong := ["".join(pair) for pair in pairs if not all(pair)]:
        raise InputError(f"--table '{wrong[0]}': write it as KEY=VALUE, as in reference=reference_image")
    counts = Counter(key for key, _, _ in pairs)
    if twice := [key for key, count in counts.items() if count > 1]:
        raise InputError(f"--table {twice[0]}=: is given {counts[twice[0]]} times; give it once, a pattern with *")
    patterns = {key: value for key, _, value in pairs if key in ("files", "images", "targets")}
    patterns |= {key: split for key, _, value in pairs if key == "split" and (split := split_named(value))}
    columns = {key: value for key, _, value in pairs if key not in patterns}
    return {**patterns, **({"columns": columns} if columns else {})}
