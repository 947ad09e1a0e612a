"""The JSON endpoint."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any

from fastapi import FastAPI, File, Form, HTTPException, Query, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic.json_schema import SkipJsonSchema
from starlette.middleware.trustedhost import TrustedHostMiddleware

from spn4cir.errors import InputError
from spn4cir.serving.answers import WEBP, Health, Names, SearchAnswer, SearchHit, problems
from spn4cir.serving.guard import BodyLimit, Guard
from spn4cir.serving.refusal import Refusal
from spn4cir.serving.service import MAX_HITS, MAX_TEXT, TEXT_PATTERN, SearchService
from spn4cir.serving.uploads import FORMATS, MAX_BYTES, MAX_PIXELS, too_large

# An upload contains a file, a text, a name and the lines between the parts.
_MAX_UPLOAD = MAX_BYTES + 100_000
_MAX_BODY = 1_000_000
_SECONDS_FOR_BODY = 60
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"]
_ENCODING = {"image": {"contentType": ", ".join(f"image/{name.lower()}" for name in FORMATS)}}
_DESCRIPTION = f"""Composed image retrieval: find the images of a gallery that match a query image and a text.

`POST /api/search` takes a query image, as a file or by its name in the gallery, and returns the images of the gallery
that show it with the change that the text describes, best first. Uploads have at most {MAX_BYTES / 1e6:.0f} MB and
{MAX_PIXELS / 1e6:.0f} megapixels. An error is a sentence under `detail`."""


def create_app(service: SearchService, hosts: list[str], names: Collection[str] = ()) -> FastAPI:
    """Creates the application with the endpoint and its guards; `spn4cir.serving.page` adds the page.

    Args:
        service: the gallery; it starts and stops with the application.
        hosts: host names that requests may use, or `["*"]`. On a loopback address, pass only the names of this
            machine, as another site can let its own name resolve to that address.
        names: names by which a proxy serves the application, in lower case, as in `search.example.org` or with a port
            that is not the usual one; requests may use them too.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service:
            yield

    app = FastAPI(
        title="spn4cir search",
        version="1",
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # both pages fetch scripts from another host
        redoc_url=None,
    )
    app.add_middleware(
        TrustedHostMiddleware, allowed_hosts=[*hosts, *(name.partition(":")[0] for name in names)], www_redirect=False
    )
    app.add_middleware(BodyLimit, most=_most_bytes, seconds=_SECONDS_FOR_BODY)
    app.add_middleware(Guard, names=names)
    _add_sentences(app)
    _add_search(app, service)
    _add_gallery(app, service)
    app.add_api_route("/api/{rest:path}", _nowhere, methods=_METHODS, include_in_schema=False)
    app.openapi = partial(_describe, app)  # type: ignore[method-assign]
    return app


def _most_bytes(path: str) -> int:
    """The most bytes of a request; the framework of the page has an address for the uploads of each page."""
    return _MAX_UPLOAD if path == "/api/search" or "/upload/" in path else _MAX_BODY


def _describe(app: FastAPI) -> dict[str, Any]:
    """The description of the endpoint, with the rule on two fields of a search that their annotations cannot say."""
    described = FastAPI.openapi(app)
    form = described["components"]["schemas"]["Body_search_api_search_post"]
    form["oneOf"] = [{"required": ["image"]}, {"required": ["reference"]}]
    return described


def _add_search(app: FastAPI, service: SearchService) -> None:
    @app.post(
        "/api/search",
        summary="Find the images that match a query image and a text",
        responses=problems(400, 404, 408, 413, 415, 422, 503),
        response_model_exclude_none=True,
        openapi_extra={"requestBody": {"content": {"multipart/form-data": {"encoding": _ENCODING}}}},
    )
    async def search(
        text: Annotated[
            str,
            Form(
                description="The change to search for, as in `is red with long sleeves`.",
                # Documented here, checked by the service.
                json_schema_extra={"minLength": 1, "maxLength": MAX_TEXT, "pattern": TEXT_PATTERN},
            ),
        ],
        image: Annotated[
            UploadFile | SkipJsonSchema[None],
            File(description="The query image as a file: PNG, JPEG, WebP, BMP or GIF."),
        ] = None,
        reference: Annotated[
            str | SkipJsonSchema[None],
            Form(
                description="Instead of `image`: the name of an image of the gallery.",
                json_schema_extra={"minLength": 1},
            ),
        ] = None,
        k: Annotated[
            int,
            Form(ge=1, le=MAX_HITS, description="Number of hits. A smaller gallery is returned whole."),
        ] = 10,
    ) -> SearchAnswer:
        """The query image itself, also under another name, is not among the hits."""
        found = await service.search(await _query_image(image, reference), text, k)
        hits = [SearchHit(name=hit.name, score=hit.score) for hit in found.hits]
        return SearchAnswer(hits=hits, warning=found.warning)


def _add_gallery(app: FastAPI, service: SearchService) -> None:
    @app.get("/api/health", summary="Whether the server works")
    async def health() -> Health:
        return Health(
            status="ok", family=service.retriever.family, weights=service.weights, images=len(service.retriever)
        )

    @app.get("/api/images", summary="Names of the images in the gallery", responses=problems(422))
    async def images(
        contains: Annotated[str, Query(max_length=MAX_TEXT, description="A part of the names, in any case.")] = "",
        offset: Annotated[int, Query(ge=0, description="Number of names to skip.")] = 0,
        limit: Annotated[int, Query(ge=1, le=MAX_HITS, description="Number of names to list.")] = 100,
    ) -> Names:
        names = service.names(contains)
        return Names(total=len(names), names=names[offset : offset + limit])

    @app.get(
        "/api/thumbnail",
        summary="A thumbnail of an image of the gallery",
        response_class=Response,
        responses=WEBP | problems(404, 422, 503),
    )
    async def thumbnail(
        name: Annotated[str, Query(description="Its name in the gallery.")],
        large: Annotated[bool, Query(description="At most 1,024 pixels a side instead of 256.")] = False,
    ) -> Response:
        small = await service.thumbnail(name, large)
        return Response(small, media_type="image/webp", headers={"Cache-Control": "private, max-age=300"})


async def _query_image(image: UploadFile | None, reference: str | None) -> str | bytes:
    """The bytes of the file, or the name; an empty field of a form counts as missing."""
    sent = image if image is not None and (image.filename or image.size) else None
    if (sent is None) == (not reference):
        raise Refusal(422, "send either 'image' (a file) or 'reference' (a name of the gallery), and not both")
    if sent is None:
        assert reference is not None
        return reference
    if (sent.size or 0) > MAX_BYTES:
        raise too_large()
    return await sent.read()


async def _nowhere(request: Request) -> None:
    """Answers any other path below /api in JSON; the page's router would answer it with a page."""
    known = (route for route in request.app.routes if isinstance(route, APIRoute) and route.path == request.url.path)
    allowed = sorted({method for route in known for method in route.methods or ()})
    if allowed:
        raise HTTPException(405, f"use {', '.join(allowed)} here", {"Allow": ", ".join(allowed)})
    raise HTTPException(404, "this endpoint does not exist; /openapi.json lists the endpoints")


def _add_sentences(app: FastAPI) -> None:
    """Answers every error with one sentence under `detail`."""

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"detail": "; ".join(dict.fromkeys(map(_sentence, error.errors())))}, 422)

    @app.exception_handler(Refusal)
    async def refused(_: Request, error: Refusal) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, error.status, {"Retry-After": "1"} if error.status == 503 else None)

    @app.exception_handler(InputError)
    async def failed(_: Request, error: InputError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 500)


def _sentence(problem: Any) -> str:
    """A sentence for a problem that pydantic reports."""
    field, got = problem["loc"][:2][-1], problem.get("input")  # the rest is the type that pydantic tried
    if problem["type"] == "missing":
        return f"'{field}' is missing; send it with the request"
    if field == "k":
        return f"'k' must be a whole number from 1 to {MAX_HITS:,}, not {str(got)[:40]!r}"
    if field == "image":
        return "'image' must be a file, sent as multipart/form-data"
    return f"'{field}': {problem['msg']}"
