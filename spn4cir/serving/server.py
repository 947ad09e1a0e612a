"""The server: its address, its gallery, its start and end."""

import gc
import logging
import socket
import sys
import warnings
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from spn4cir.errors import InputError

if TYPE_CHECKING:
    from spn4cir.search.retriever import Retriever

_PACKAGES = ("fastapi", "nicegui", "python_multipart", "uvicorn")
_HERE = ["localhost", "127.0.0.1", "[::1]"]
_SECONDS_TO_END = 3
_NAMED = 5


def require_packages() -> None:
    """Raises InputError when the packages of the extra `serve` are not installed."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise InputError(f"serve: {', '.join(missing)} not installed; run pip install 'spn4cir[serve]'")


def claim_port(host: str, port: int) -> socket.socket:
    """A socket bound to the address (port 0: any that is free), so that nobody else takes it while weights are read.

    Raises InputError when the host is not known, or the port is in use or not allowed.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        raise InputError(f"--host {host}: no such address; use 127.0.0.1, or 0.0.0.0 for every network") from None
    # Of a name with several addresses the one of IPv4, which clients try too.
    family, kind, protocol, _, place = min(found, key=lambda each: each[0] != socket.AF_INET)
    claimed = socket.socket(family, kind, protocol)
    claimed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        claimed.bind(place)
    except OSError as error:
        claimed.close()
        raise InputError(f"port {port} of {host}: {error.strerror}; choose another with --port") from None
    return claimed


def index_gallery(retriever: "Retriever", folder: Path) -> None:
    """Indexes a folder's pictures; says on stderr which are left out: broken ones, and links that lead out of it.

    Raises InputError when no picture is left.
    """
    from spn4cir.serving.service import leads_into

    retriever.index(folder, skip=True)
    _say_left_out(retriever.changes.skipped, "cannot be read")
    inside = folder.resolve()
    outside = [name for name in retriever.names if not leads_into(retriever.path(name), inside)]
    if len(outside) == len(retriever):
        raise InputError(f"{folder}: the gallery is empty: every picture is a link that leads out of the folder")
    if outside:
        retriever.remove(outside)
        _say_left_out(outside, "are links that lead out of the gallery")


def _say_left_out(names: "tuple[str, ...] | list[str]", why: str) -> None:
    if names:
        more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        print(f"warning: left out, for they {why}: {', '.join(names[:_NAMED])}{more}", file=sys.stderr)


def run(retriever: "Retriever", folder: Path, claimed: socket.socket) -> None:
    """Serves the gallery until the process is interrupted; prints the address once it answers."""
    import uvicorn

    from spn4cir.serving.api import create_app
    from spn4cir.serving.page import add_page
    from spn4cir.serving.service import SearchService

    host, port = claimed.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    service = SearchService(retriever, folder)
    local = ip_address(host).is_loopback
    app = create_app(service, [*_HERE, shown] if local else ["*"])
    add_page(app, service)

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                print(f"http://{shown}:{port}/ serves {len(retriever):,} pictures; Ctrl-C ends it", flush=True)

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            # Requests that the end cuts off would be told of with tracebacks.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            super().handle_exit(sig, frame)

    # When the page starts, its framework asks every object's type, a deprecated one of torch's too.
    warnings.filterwarnings("ignore", category=FutureWarning, module="nicegui")
    # Pictures with a palette lose their transparency on purpose: the networks see RGB.
    warnings.filterwarnings("ignore", category=UserWarning, message="Palette images with Transparency")
    if not local:
        print(f"warning: whoever reaches {shown} can see the gallery and search it", file=sys.stderr)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=_SECONDS_TO_END
    )
    gc.freeze()  # what was loaded so far stays: looking through it again would hold up searches, and the end
    Server(config).run(sockets=[claimed])
