"""Base models of the settings: frozen, without unknown keys; and stages whose output may come from the hub."""

from collections.abc import Iterator
from reprlib import Repr
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from spn4cir.errors import masked_url

Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Settings(BaseModel):
    """Base of all settings: frozen models that reject unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _no_truth_as_number(cls, content: Any) -> Any:
        """Refuses true and false for numbers; pydantic reads them as 1 and 0."""
        for name, field in cls.model_fields.items() if isinstance(content, dict) else ():
            key = field.alias or name
            if (place := _truth(content.get(key), key)) and _is_number(field.annotation):
                raise ValueError(f"{place} should be another value than true or false")
        return content


def _truth(value: Any, key: str) -> str:
    """Returns the key of a value that is true or false, or that contains such a value; empty if there is none."""
    if isinstance(value, dict):
        return next((f"{key}.{name}" for name, each in value.items() if isinstance(each, bool)), "")
    inner = value if isinstance(value, list | tuple) else [value]
    return key if any(isinstance(each, bool) for each in inner) else ""


def _is_number(annotation: Any) -> bool:
    """Whether a type contains numbers, and neither truth values nor a model, which checks its own fields."""
    kinds = set(_kinds(annotation))
    return not kinds.isdisjoint({int, float}) and bool not in kinds and not any(map(_is_model, kinds))


def _kinds(annotation: Any) -> Iterator[Any]:
    """Yields a type and the types that it is composed of."""
    yield annotation
    for part in get_args(annotation):
        yield from _kinds(part)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


class HubFile(Settings):
    """A file in the hub repository. With `sha256`, other content is refused; null trusts the hub's own hash."""

    file: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


Origin = Literal["make", "path", "hub"]


class FromHub(Settings):
    """A stage whose output may come from the hub."""

    _hub_is_file: ClassVar[bool] = True

    source: str
    hub: HubFile | str | None

    @model_validator(mode="after")
    def _hub_is_named(self) -> Self:
        if self.source == "hub" and self.hub is None:
            wanted = "{file: PATH IN THE REPOSITORY}" if self._hub_is_file else "FOLDER IN THE REPOSITORY"
            raise ValueError(f"source hub needs the key hub: {wanted}")
        return self


class Published(FromHub):
    """The source of a stage's output: made by the stage, a published file under the data set's root, or a hub file."""

    source: Origin
    hub: HubFile | None


class _MaskedRepr(Repr):
    """Masks the secrets of URLs before a text is shortened."""

    def repr_str(self, x: str, level: int) -> str:
        return super().repr_str(masked_url(x), level)


def short_repr(value: Any) -> str:
    """Returns a value as a message quotes it: 80 characters, whatever is nested in it or refers to itself.

    The user, the password and the query of a URL are masked.
    """
    short = _MaskedRepr()
    short.maxlevel, short.maxdict, short.maxstring, short.maxlong, short.maxother = 4, 10, 80, 80, 80
    text = short.repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def first_problem(error: ValidationError) -> str:
    """Returns an error's first problem, e.g. `counts.queries: field required`; without a key if it has no place."""
    problem = error.errors()[0]
    return ": ".join(part for part in (".".join(map(str, problem["loc"])), problem["msg"].lower()) if part)
