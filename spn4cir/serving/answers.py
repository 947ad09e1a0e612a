"""The answers of the endpoint, with the descriptions for `/openapi.json`."""

from typing import Any

from pydantic import BaseModel, Field

from spn4cir.serving.uploads import MAX_BYTES, MAX_PIXELS

WEBP: dict[int | str, dict[str, Any]] = {200: {"content": {"image/webp": {}}, "description": "The image."}}


class SearchHit(BaseModel):
    """An image that a search found."""

    name: str = Field(description="Its name in the gallery.")
    score: float = Field(description="Its similarity to the query: a cosine, higher is better.")


class SearchAnswer(BaseModel):
    """The hits of a search."""

    hits: list[SearchHit] = Field(description="Best first; equal scores are sorted by name.")
    warning: str | None = Field(
        default=None, description="Present only if the text has more tokens than the network reads and was cut."
    )


class Health(BaseModel):
    """The state of the server and the size of the gallery."""

    status: str = Field(description="`ok`.")
    family: str = Field(description="The family of the network.")
    weights: str = Field(description="The file of its weights.")
    images: int = Field(description="Number of images in the gallery.")


class Names(BaseModel):
    """One page of the names in the gallery."""

    total: int = Field(description="Number of names that match.")
    names: list[str] = Field(description="The names from `offset` on, sorted.")


class Problem(BaseModel):
    """The reason for which a request is refused."""

    detail: str = Field(description="A sentence that names the fault and its remedy.")


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The descriptions of the error statuses of an endpoint."""
    meanings = {
        400: "The request is not a readable form.",
        404: "No image of the gallery has that name.",
        408: "The request did not arrive in time.",
        413: f"More than {MAX_BYTES / 1e6:.0f} MB, or more than {MAX_PIXELS / 1e6:.0f} megapixels.",
        415: "The upload is broken, or its type is not supported.",
        422: "A field is missing or has an invalid value.",
        503: "Too many requests at once; the header Retry-After contains the seconds to wait.",
    }
    return {status: {"model": Problem, "description": meanings[status]} for status in statuses}
