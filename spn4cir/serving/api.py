"""The JSON endpoint."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
from spn4cir.serving.service import MAX_HITS, MAX_TEXT, SearchService
from spn4cir.serving.uploads import MAX_BYTES, MAX_PIXELS, too_large

# Besides the file a request holds a text, a name and the lines between the parts.
_MAX_BODY = MAX_BYTES + 100_000
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
_DESCRIPTION = f"""Composed image retrieval: find the pictures of a gallery that a picture and a text ask for.

`POST /api/search` takes a picture, as a file or as the name of one of the gallery, and says which pictures of the
gallery show it with the change that the text names, best first. Uploads have at most {MAX_BYTES / 1e6:.0f} MB and
{MAX_PIXELS / 1e6:.0f} megapixels. Whatever will not do is answered with a sentence under `detail`."""


def create_app(service: SearchService, hosts: list[str]) -> FastAPI:
    """The application: the endpoint and what guards it; the page is added by `spn4cir.serving.page`.

    Args:
        service: the gallery; it is started and stopped with the application.
        hosts: names that requests may call the server by, or `["*"]`. On a loopback address only those of this
            machine: another site could make its own name lead here.
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
        docs_url=None,  # both would fetch their scripts from another host
        redoc_url=None,
    )
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
    app.add_middleware(BodyLimit, most=_MAX_BODY)
    app.add_middleware(Guard)
    _add_sentences(app)
    _add_search(app, service)
    _add_gallery(app, service)
    app.add_api_route("/api/{rest:path}", _nowhere, methods=_METHODS, include_in_schema=False)
    return app


def _add_search(app: FastAPI, service: SearchService) -> None:
    @app.post(
        "/api/search",
        summary="Find the pictures that a picture and a text ask for",
        responses=problems(400, 404, 413, 415, 422, 503),
        response_model_exclude_none=True,
    )
    async def search(
        text: Annotated[
            str,
            Form(
                description="What is to be different, as in `is red with long sleeves`.",
                json_schema_extra={"minLength": 1, "maxLength": MAX_TEXT},  # told here, refused in the service's words
            ),
        ],
        image: Annotated[
            UploadFile | SkipJsonSchema[None],
            File(description="The picture as a file: PNG, JPEG, WebP, BMP or GIF."),
        ] = None,
        reference: Annotated[
            str | SkipJsonSchema[None], Form(description="Instead of `image`: the name of a picture of the gallery.")
        ] = None,
        k: Annotated[
            int,
            Form(ge=1, le=MAX_HITS, description="How many to find. More than there are gives the whole gallery."),
        ] = 10,
    ) -> SearchAnswer:
        """The picture itself, also under another name, is not among the hits."""
        found = await service.search(await _picture(image, reference), text, k)
        hits = [SearchHit(name=hit.name, score=hit.score) for hit in found.hits]
        return SearchAnswer(hits=hits, warning=found.warning)


def _add_gallery(app: FastAPI, service: SearchService) -> None:
    @app.get("/api/health", summary="Whether the server works")
    async def health() -> Health:
        return Health(status="ok", family=service.retriever.family, pictures=len(service.retriever))

    @app.get("/api/pictures", summary="Names of the gallery", responses=problems(422))
    async def pictures(
        contains: Annotated[str, Query(max_length=MAX_TEXT, description="Only names that contain this.")] = "",
        offset: Annotated[int, Query(ge=0, description="How many to pass over.")] = 0,
        limit: Annotated[int, Query(ge=1, le=MAX_HITS, description="How many to list.")] = 100,
    ) -> Names:
        names = service.names(contains)
        return Names(total=len(names), names=names[offset : offset + limit])

    @app.get(
        "/api/thumbnail",
        summary="A small picture of the gallery",
        response_class=Response,
        responses=WEBP | problems(404, 422, 503),
    )
    async def thumbnail(name: Annotated[str, Query(description="Its name in the gallery.")]) -> Response:
        small = await service.picture(name)
        return Response(small, media_type="image/webp", headers={"Cache-Control": "private, max-age=300"})


async def _picture(image: UploadFile | None, reference: str | None) -> str | bytes:
    """The one of both that is there; a form's empty field is none."""
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
    """Any other path below /api: the page's own router would answer it with a page."""
    known = (route for route in request.app.routes if isinstance(route, APIRoute) and route.path == request.url.path)
    allowed = sorted({method for route in known for method in route.methods or ()})
    if allowed:
        raise HTTPException(405, f"use {', '.join(allowed)} here", {"Allow": ", ".join(allowed)})
    raise HTTPException(404, "there is no such endpoint; /openapi.json lists them")


def _add_sentences(app: FastAPI) -> None:
    """Every error is answered with one sentence under `detail`."""

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
    """What pydantic found, in our words."""
    field, got = problem["loc"][:2][-1], problem.get("input")  # the rest tells which of its types was tried
    if problem["type"] == "missing":
        return f"'{field}' is missing; send it along"
    if field == "k":
        return f"'k' must be a whole number from 1 to {MAX_HITS:,}, not {str(got)[:40]!r}"
    if field == "image":
        return "'image' must be a file, sent as multipart/form-data"
    return f"'{field}': {problem['msg']}"
