"""The command `serve`."""

from pathlib import Path
from typing import Annotated

import typer

from spn4cir.cli.groups import MachineOptions, NetworkOptions, command
from spn4cir.cli.options import Weights
from spn4cir.cli.searching import GalleryFolder, open_network


@command("spn4cir serve --checkpoint best.pt --gallery ~/dresses")
def serve(
    checkpoint: Weights,
    gallery: GalleryFolder,
    *,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on. Default: this machine alone; 0.0.0.0: every network.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="Port to listen on; 0: any that is free.")
    ] = 7860,
    index: Annotated[
        Path | None,
        typer.Option(
            "--index", metavar="INDEX", help="Of `spn4cir index`: only images that are not in it are encoded."
        ),
    ] = None,
    network: NetworkOptions,
    machine: MachineOptions,
) -> None:
    """Open a search page in the browser, and the JSON endpoint behind it.

    Reads the weights and the images, which it encodes once. Then one picks or uploads a picture, types the change and
    sees the ranking at the address that is printed; /openapi.json describes the endpoint. Needs the packages of the
    extra 'serve'. Ctrl-C ends it.
    """
    from spn4cir.serving.server import claim_port, index_gallery, require_packages, run

    require_packages()
    with claim_port(host, port) as claimed:
        retriever = open_network(checkpoint, network, machine, gallery)
        if index is not None:
            retriever.resume(index)
        index_gallery(retriever, gallery)
        run(retriever, gallery, claimed)
