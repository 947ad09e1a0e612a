"""Base models of the settings: frozen, without unknown keys; and stages whose output may come from the hub."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Settings(BaseModel):
    """Base of all settings: frozen models that reject unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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


def first_problem(error: ValidationError) -> str:
    """Returns an error's first problem, e.g. `counts.queries: field required`; without a key if it has no place."""
    problem = error.errors()[0]
    return ": ".join(part for part in (".".join(map(str, problem["loc"])), problem["msg"].lower()) if part)
