"""Tables in the forms of the hub, and the layout that reads them."""

from pathlib import Path
from typing import Any

from spn4cir.datasets import open_layout
from spn4cir.datasets.table import Table
from tests.helpers.layouts import image_cells, write_parquet

COLUMNS = {"reference": "reference_image", "target": "target_image"}


def table(root: Path, missing: str = "error", **settings: Any) -> Table:
    """Returns the layout with the settings of its table; `held_out` is a setting of the data set."""
    held_out = {key: settings.pop(key) for key in ("held_out",) if key in settings}
    opened = open_layout("table", root, missing, {"table": settings, **held_out})  # type: ignore[arg-type]
    assert isinstance(opened, Table)
    return opened


def write_benchmark(root: Path) -> dict[str, Any]:
    """Writes queries, a corpus and their relevance in the form of MTEB's tasks. One reference is not in the corpus."""
    cells = image_cells(root, 6)
    write_parquet(root / "corpus/test-00000-of-00001.parquet", {"id": [f"c{n}" for n in range(5)], "image": cells[:5]})
    write_parquet(
        root / "query/test-00000-of-00001.parquet",
        {"id": ["q0", "q1"], "image": [cells[0] | {"path": None}, cells[5]], "text": ["is red", "is blue"]},
    )
    write_parquet(
        root / "qrels/test-00000-of-00001.parquet",
        {"query-id": ["q0", "q1", "q1", "q0"], "corpus-id": ["c1", "c2", "c3", "c4"], "score": [1, 1, 2, 0]},
    )
    columns = {"reference": "image", "query": "id"}
    return {"files": "query/*", "images": "corpus/*", "targets": "qrels/*", "columns": columns}


def write_rows(root: Path, **other: Any) -> Path:
    """Writes two rows that contain their images, one for each split; `other` columns replace these or are added."""
    cells = image_cells(root, 3)
    columns = {"reference": cells[:2], "target": cells[1:], "text": ["a", "b"], "split": ["val", "train"]}
    return write_parquet(root / "t.parquet", columns | {key: value for key, value in other.items() if value})


def write_relevance(root: Path, names: list[str], scores: list[Any]) -> Path:
    """Returns another relevance for `write_benchmark`: one answer of q0 and two of q1."""
    columns = {"query-id": ["q0", "q1", "q1"], "corpus-id": names, "score": scores}
    return write_parquet(root / "qrels/test-00000-of-00001.parquet", columns)
