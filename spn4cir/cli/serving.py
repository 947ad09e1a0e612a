"""The command `serve`."""

from pathlib import Path
from typing import Annotated

import typer

from spn4cir.cli.groups import MachineOptions, QueryNetworkOptions, command
from spn4cir.cli.options import Weights
from spn4cir.cli.searching import GalleryFolder, open_network


@command("spn4cir serve --checkpoint best.pt --gallery ~/dresses")
def serve(
    checkpoint: Weights,
    gallery: GalleryFolder,
    *,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on. Default: only this machine; 0.0.0.0: all networks.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="Port to listen on; 0: any free port.")
    ] = 7860,
    index: Annotated[
        Path | None,
        typer.Option(
            "--index", metavar="INDEX", help="An index that `spn4cir index` wrote: its images are not encoded again."
        ),
    ] = None,
    network: QueryNetworkOptions,
    machine: MachineOptions,
) -> None:
    """Serve a search page for the browser, and its JSON endpoint.

    Reads the weights and encodes the images once, then prints the address of the page, where a user picks or uploads an
    image, types the change and sees the ranking. /openapi.json describes the endpoint. Needs the packages of the extra
    'serve'. Ctrl-C ends it.
    """
    from spn4cir.serving.server import claim_port, index_gallery, require_packages, run

    require_packages()
    with claim_port(host, port) as claimed:
        retriever = open_network(checkpoint, network, machine, gallery)
        if index is not None:
            retriever.resume(index)
        index_gallery(retriever, gallery)
        run(retriever, gallery, claimed)
