"""What the settings' sections are made of: frozen models without unknown keys, and outs that the hub may hold."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Settings(BaseModel):
    """Base of all settings: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class HubFile(Settings):
    """A file of the hub's repository; `sha256` refuses any other content, null takes what the hub says."""

    file: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


Origin = Literal["make", "path", "hub"]


class FromHub(Settings):
    """A stage whose out may come from the hub."""

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
    """Where a stage's out comes from: made here, a published file under the data set's root, or one of the hub."""

    source: Origin
    hub: HubFile | None


def first_problem(error: ValidationError) -> str:
    """The first of an error's problems, as `counts.queries: field required`; of the whole content without a place."""
    problem = error.errors()[0]
    return ": ".join(part for part in (".".join(map(str, problem["loc"])), problem["msg"].lower()) if part)
