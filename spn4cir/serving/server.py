"""The server: its port, the indexing of its gallery, and its start and stop."""

import asyncio
import errno
import gc
import logging
import re
import socket
import sys
import warnings
from collections.abc import Collection
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from spn4cir.errors import InputError
from spn4cir.extras import install_command
from spn4cir.readable import real_path

if TYPE_CHECKING:
    from spn4cir.search.retriever import Retriever
    from spn4cir.search.searchable import Searchable
    from spn4cir.serving.annotator import Annotator

_PACKAGES = ("fastapi", "nicegui", "python_multipart", "uvicorn")
_HERE = ["localhost", "127.0.0.1", "[::1]"]
_SECONDS_TO_END = 3
# Bytes of a message from the page to the server.
_LARGEST_MESSAGE = 1_000_000
_NAMED = 5


def require_packages() -> None:
    """Raises InputError if packages of the extra `serve` are missing."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise InputError(f"serve: {', '.join(missing)} not installed; run {install_command('serve')}")


def claim_port(host: str, port: int) -> socket.socket:
    """Binds a socket to the address (port 0: any free port), so that no other process takes it while weights are read.

    Raises InputError if the host is unknown or another machine, or the port is in use or not allowed.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        raise InputError(f"--host {host}: no such address; use 127.0.0.1, or 0.0.0.0 for every network") from None
    # For a name with several addresses take the IPv4 address, which clients try too.
    family, kind, protocol, _, place = min(found, key=lambda each: each[0] != socket.AF_INET)
    claimed = socket.socket(family, kind, protocol)
    claimed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        claimed.bind(place)
    except OSError as error:
        claimed.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise InputError(f"--host {host}: is no address of this machine; use 127.0.0.1 or 0.0.0.0") from None
        raise InputError(f"port {port} of {host}: {error.strerror}; choose another with --port") from None
    return claimed


def index_gallery(retriever: "Retriever", folder: Path) -> None:
    """Indexes the images of a folder, without those that cannot be served, which are listed on stderr.

    Left out are broken images, links that lead out of the folder, and names that are not UTF-8.

    Raises InputError if no image is left.
    """
    from spn4cir.serving.service import leads_into

    retriever.index(folder, skip=True)
    misnamed = retriever.changes.misnamed
    _report_left_out([name for name in retriever.changes.skipped if name not in misnamed], "they cannot be read")
    _report_left_out(misnamed, "their names are not UTF-8")
    inside = real_path(folder)
    outside = [name for name in retriever.names if not leads_into(retriever.path(name), inside)]
    if len(outside) == len(retriever):
        raise InputError(
            f"{folder}: the gallery is empty: every image is a link that leads out of the folder; copy images into it"
        )
    if outside:
        retriever.remove(outside)
    _report_left_out(outside, "they are links that lead out of the gallery")


def _report_left_out(names: "tuple[str, ...] | list[str]", why: str) -> None:
    if names:
        more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        print(f"warning: left out because {why}: {', '.join(names[:_NAMED])}{more}", file=sys.stderr)


def check_public_name(name: str) -> str:
    """Returns the name of a host, with or without a port, in lower case.

    Raises InputError if it is none, is an address, or is a name of this machine, at which other programs serve pages.
    """
    host, colon, port = name.lower().partition(":")
    labels = host.split(".")
    is_name = all(re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", label) for label in labels)
    if not is_name or labels[-1].isdecimal() or host == "localhost" or not re.fullmatch(r"(:[0-9]+)?", colon + port):
        raise InputError(
            f"--public-name {name}: expected the name of another host, as in search.example.org or "
            "search.example.org:8443 (xn--... for other letters)"
        )
    return name.lower()


def run(
    retriever: "Searchable",
    folder: Path,
    claimed: socket.socket,
    annotator: "Annotator | None" = None,
    names: Collection[str] = (),
) -> None:
    """Serves the gallery until the process is interrupted; prints the address when the server is ready.

    Args:
        retriever: the network and the gallery.
        folder: the folder of the images.
        claimed: the socket to listen on.
        annotator: the annotation of the gallery; None: the server has no annotation page.
        names: names by which a proxy serves the pages, in lower case.
    """
    import uvicorn

    from spn4cir.serving.annotate_page import add_annotate_page
    from spn4cir.serving.api import create_app
    from spn4cir.serving.connections import MAX_CONNECTIONS, Connection, limit_unread
    from spn4cir.serving.freed_memory import free_memory, keep_little
    from spn4cir.serving.page import add_page
    from spn4cir.serving.service import SearchService

    host, port = claimed.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    service = SearchService(retriever, folder)
    local = ip_address(host).is_loopback
    app = create_app(service, [*_HERE, shown] if local else ["*"], names)
    if annotator is not None:
        add_annotate_page(service, annotator)
    add_page(app, service, annotated=annotator is not None)

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                # Kept here, as asyncio keeps only weak references.
                self.frees_memory = asyncio.create_task(free_memory())
                print(f"http://{shown}:{port}/ serves {len(retriever):,} images; Ctrl-C stops it", flush=True)
                if annotator is not None:
                    print(f"http://{shown}:{port}/annotate adds queries to {annotator.file.path}", flush=True)

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            # Requests that the stop interrupts would be logged with tracebacks.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            super().handle_exit(sig, frame)

    # When the page starts, its framework inspects the type of every object, one of them deprecated in torch.
    warnings.filterwarnings("ignore", category=FutureWarning, module="nicegui")
    if not local:
        writes = "" if annotator is None else f", and add rows to {annotator.file.path}"
        print(f"warning: everyone who can reach {shown} can see and search the gallery{writes}", file=sys.stderr)
    config = uvicorn.Config(
        app,
        http=Connection,
        limit_concurrency=MAX_CONNECTIONS,
        ws_max_size=_LARGEST_MESSAGE,
        timeout_graceful_shutdown=_SECONDS_TO_END,
        log_level="error",  # a warning is written for each invalid request
        access_log=False,
        server_header=False,
    )
    keep_little()
    limit_unread(claimed)
    logging.getLogger("uvicorn.error").addFilter(_is_fault)
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # a warning is written for each broken body
    gc.freeze()  # objects loaded so far stay; collecting them again would delay searches and the stop
    Server(config).run(sockets=[claimed])


def _is_fault(record: logging.LogRecord) -> bool:
    """Returns false for the error that the page's framework raises when a client leaves before its answer begins."""
    error = record.exc_info[1] if record.exc_info else None
    return not (isinstance(error, RuntimeError) and str(error) == "No response returned.")
