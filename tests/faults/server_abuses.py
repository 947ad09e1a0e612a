"""The faults that clients make, by kind."""

from collections.abc import Awaitable, Callable
from random import Random
from typing import NamedTuple

from tests.faults import server_connections as connections
from tests.faults import server_forms as forms
from tests.faults import server_sockets as sockets
from tests.faults.server_wire import Place


class Abuse(NamedTuple):
    """A kind of fault.

    Attributes:
        name: what clients do.
        run: does it once, in one of its ways.
        allowed: the statuses that an answer may have, beside a 503 that says why.
    """

    name: str
    run: Callable[[Place, Random], Awaitable[bytes]]
    allowed: frozenset[int]


_REFUSED = frozenset({400, 403, 404, 405, 408, 413, 415, 422, 426, 431})
_ANY = _REFUSED | {101, 200, 307}
ABUSES = (
    Abuse("half requests", connections.half_request, _ANY),
    Abuse("heads and bodies that come byte by byte", connections.slow_request, _ANY),
    Abuse("wrong lengths of a body", connections.wrong_length, _ANY),
    Abuse("chunked bodies with wrong sizes, endless trailers, a second request", connections.chunks, _ANY),
    Abuse("connections that are reset", connections.reset, _ANY),
    Abuse("answers that nobody reads", connections.unread, _ANY),
    Abuse("decompression bombs", forms.bomb, _ANY),
    Abuse("SVG, PDF, scripts and polyglots as an image", forms.other_file, _ANY),
    Abuse("bodies of more than 10 MB", forms.too_large, _REFUSED),
    Abuse("10,000 fields, and broken forms", forms.many_fields, _REFUSED),
    Abuse("deep JSON", forms.deep_json, _REFUSED),
    Abuse("floods of headers, and broken ones", connections.headers, _ANY),
    Abuse("broken request lines and other protocols", connections.lines, _ANY),
    Abuse("paths out of the gallery, in every encoding", forms.traversal, _REFUSED | {307}),
    Abuse("other names of the host, and other origins", forms.hosts, _REFUSED),
    Abuse("headers of proxies", forms.forwarded, _ANY),
    Abuse("pages that no browser opens, and unknown addresses", forms.pages, _ANY),
    Abuse("uploads to the page of another visitor", forms.foreign_upload, _REFUSED),
    Abuse("polling of the page's socket", sockets.polling, _ANY),
    Abuse("messages to the page's socket that it never gets", sockets.socket_garbage, _ANY),
    Abuse("broken frames to the page's socket", sockets.socket_frames, _ANY),
)
