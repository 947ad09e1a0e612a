"""What the endpoint answers, as its description states it."""

from typing import Any

from pydantic import BaseModel, Field

from spn4cir.serving.uploads import MAX_BYTES, MAX_PIXELS

WEBP: dict[int | str, dict[str, Any]] = {200: {"content": {"image/webp": {}}, "description": "The picture."}}


class SearchHit(BaseModel):
    """A picture that was found."""

    name: str = Field(description="Its name in the gallery.")
    score: float = Field(description="Its similarity to the query: a cosine, higher is better.")


class SearchAnswer(BaseModel):
    """What a search found."""

    hits: list[SearchHit] = Field(description="Best first; equal scores by name.")
    warning: str | None = Field(
        default=None, description="Only there when the text has more tokens than the network reads: the rest was cut."
    )


class Health(BaseModel):
    """The state of the server."""

    status: str = Field(description="`ok`.")
    family: str = Field(description="The family of the network.")
    pictures: int = Field(description="How many pictures the gallery holds.")


class Names(BaseModel):
    """A page of the gallery's names."""

    total: int = Field(description="How many names match.")
    names: list[str] = Field(description="Those from `offset` on, in order.")


class Problem(BaseModel):
    """Why a request was not answered."""

    detail: str = Field(description="A sentence: what is wrong and what to do.")


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of an endpoint, by status."""
    meanings = {
        400: "The request is no readable form.",
        404: "No picture of the gallery has that name.",
        413: f"More than {MAX_BYTES / 1e6:.0f} MB, or more than {MAX_PIXELS / 1e6:.0f} megapixels.",
        415: "The upload is broken or of a type that is not read.",
        422: "A field is missing or will not do.",
        503: "Too many requests at once; the header Retry-After says when to come again.",
    }
    return {status: {"model": Problem, "description": meanings[status]} for status in statuses}
