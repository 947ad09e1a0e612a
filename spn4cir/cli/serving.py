"""The command `serve`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spn4cir.cli.groups import MachineOptions, QueryNetworkOptions, command
from spn4cir.cli.options import Weights
from spn4cir.cli.outputs import check_outputs
from spn4cir.cli.searching import GalleryFolder, open_network
from spn4cir.errors import InputError

if TYPE_CHECKING:
    from spn4cir.search.database import DatabaseRetriever
    from spn4cir.search.retriever import Retriever
    from spn4cir.serving.annotations import AnnotationFile
    from spn4cir.serving.annotator import Annotator

_GOAL = 100
_SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class AnnotateOptions:
    """The annotation page."""

    annotate: Annotated[
        Path | None,
        typer.Option(
            "--annotate",
            metavar="FILE",
            help="Also serve a page /annotate that adds queries to this CSV file; an existing file is continued.",
        ),
    ] = None
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="|".join(_SPLITS),
            help="Split of the queries that are added. Default: val; none if the rows of FILE have none.",
        ),
    ] = None
    goal: Annotated[
        int | None, typer.Option("--goal", metavar="N", min=1, help=f"Wanted number of queries. Default: {_GOAL}.")
    ] = None
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", min=0, help="Order of the proposed references. Default: 0.")
    ] = None

    def open(self) -> "AnnotationFile | None":
        """Checks the options and opens the file; None without --annotate."""
        from spn4cir.serving.annotations import AnnotationFile

        if self.annotate is None:
            given = {"split": self.split, "goal": self.goal, "seed": self.seed}
            if alone := [name for name, value in given.items() if value is not None]:
                raise InputError(f"--{alone[0]} needs --annotate FILE; add it, or leave out --{alone[0]}")
            return None
        if self.split not in (None, *_SPLITS):
            raise InputError(f"--split '{self.split}' is not known; choose one of {', '.join(_SPLITS)}")
        return AnnotationFile(self.annotate, self.split)

    def annotator(self, file: "AnnotationFile", retriever: "Retriever") -> "Annotator":
        """The annotation of an indexed gallery; warns on stderr if rows of the file name other images."""
        from spn4cir.serving.annotator import Annotator, report_absent
        from spn4cir.serving.proposals import proposal_order

        goal = self.goal or _GOAL
        report_absent(file, retriever.names)
        return Annotator(file, proposal_order(retriever.image_index, goal, self.seed or 0), goal)


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
    public_name: Annotated[
        str | None,
        typer.Option(
            "--public-name",
            metavar="HOST",
            help="Name by which a proxy serves the page, as in search.example.org.",
        ),
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option(
            "--index", metavar="INDEX", help="An index that `spn4cir index` wrote: its images are not encoded again."
        ),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            "--database",
            metavar="ADDRESS",
            help="Search a collection of Qdrant instead, as in qdrant://127.0.0.1:6333/catalogue, or in a folder "
            "qdrant:FOLDER/catalogue; the images of FOLDER are shown, and not encoded. The variable QDRANT_API_KEY "
            "contains a server's key.",
        ),
    ] = None,
    annotations: AnnotateOptions,
    network: QueryNetworkOptions,
    machine: MachineOptions,
) -> None:
    """Serve a search page for the browser, and its JSON endpoint.

    Reads the weights and encodes the images once, then prints the address of the page, where a user picks or uploads an
    image, types the change and sees the ranking. /openapi.json describes the endpoint. With --annotate, a second page
    writes queries for a benchmark. With --database, a vector database is searched. Needs the packages of the extra
    'serve', --database those of 'qdrant'. Ctrl-C ends it.
    """
    from spn4cir.serving.server import check_public_name, claim_port, index_gallery, require_packages, run

    require_packages()
    names = () if public_name is None else (check_public_name(public_name),)
    file = annotations.open()
    check_outputs(annotations.annotate, reads=[checkpoint, index])
    if database is not None and (file is not None or index is not None):
        raise InputError("--database: the images are not indexed here; leave out --index and --annotate")
    with claim_port(host, port) as claimed:
        if database is not None:
            run(_open_database(database, checkpoint, network, machine, gallery), gallery, claimed, names=names)
            return
        retriever = open_network(checkpoint, network, machine, gallery)
        if index is not None:
            retriever.resume(index)
        index_gallery(retriever, gallery)
        run(retriever, gallery, claimed, annotations.annotator(file, retriever) if file else None, names)


def _open_database(
    database: str, checkpoint: Path, network: QueryNetworkOptions, machine: MachineOptions, gallery: Path
) -> "DatabaseRetriever":
    from spn4cir.search.database import DatabaseAddress, DatabaseRetriever

    address = DatabaseAddress.parse(database)
    opened = open_network(checkpoint, network, machine, gallery)
    return DatabaseRetriever(opened.composer, opened.weights, opened.device, address, gallery)
