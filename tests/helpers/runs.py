"""Metrics files and their tables of queries, as validate writes them, from ranks alone; and commits of them."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from dvc.repo import Repo
from torch import tensor

from spn4cir.datasets import LAYOUTS, open_layout
from spn4cir.evaluation.metrics import recall_of_ranks
from spn4cir.evaluation.score_recipe import RECIPE_KEY, score_recipe, write_recipe

# Split -> rank of each query from 1, or (rank, subset rank).
Outcome = Mapping[str, Sequence[int | tuple[int, int]]]
FIQ_A = {"dress": [1, 11, 60, 5], "shirt": [10, 51, 2], "toptee": [50, 1]}
FIQ_B = {"dress": [1, 9, 10, 70], "shirt": [10, 51, 2], "toptee": [50, 3]}
CIRR_A = {"val": [(1, 1), (6, 2), (2, 1), (60, 5)]}
CIRR_B = {"val": [(1, 1), (5, 1), (7, 3), (60, 5)]}
CAPTIONS = {"fashioniq": "first and second caption, joined by ' and '", "cirr": "the one caption as annotated"}


def _row(split: str, query: int, queries: int, rank: int, subset_rank: int | None) -> dict[str, Any]:
    """A query from image i to image i + 1; `top` contains the target at its rank, if that is at most 11."""
    names = [f"{split}-val-{(query + 1 + step) % max(queries, 12)}" for step in range(11)]
    target, *others = names
    top = [*others[: rank - 1], target, *others[rank - 1 :]] if rank <= len(names) else others
    return {
        "split": split,
        "query": query,
        "reference": f"{split}-val-{query}",
        "text": f"is number {query}",
        "target": target,
        "rank": rank,
        "subset_rank": subset_rank,
        "top": top,
    }


def write_run(path: Path, layout: str, outcome: Outcome, root: Path, **changes: Any) -> Path:
    """Writes the metrics file `path` and its table; `changes` are made to the protocol."""
    assert layout in LAYOUTS
    adapter = open_layout(layout, root, "error")
    rows, recalls = [], {}
    for split, places in outcome.items():
        pairs = [place if isinstance(place, tuple) else (place, None) for place in places]
        rows += [_row(split, i, len(pairs), *pair) for i, pair in enumerate(pairs)]
        whole, within = (tensor([pair[i] or 0 for pair in pairs]) - 1 for i in (0, 1))
        recalls[split] = {f"recall_at{k}": recall_of_ranks(whole, k) for k in adapter.protocol.recall_ks}
        recalls[split] |= {f"recall_subset_at{k}": recall_of_ranks(within, k) for k in adapter.protocol.subset_ks}
    columns = dict.fromkeys(("split", "reference", "text", "target"), pa.string())
    columns |= {"top": pa.list_(pa.string())}
    columns |= dict.fromkeys(("query", "rank", "subset_rank"), pa.int64())
    schema = pa.schema(list(columns.items()), {RECIPE_KEY: write_recipe(score_recipe(adapter, list(outcome)))})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema), path.with_suffix(".parquet"))
    protocol = {
        "family": "clip",
        "gallery": "all images of the split files",
        "reference": "removed from the ranking",
        "captions": CAPTIONS[layout],
        "text": "letters as written",
        "preprocess": {"size": 288},
    }
    content = {
        **adapter.summarise(recalls),
        "protocol": protocol | changes,
        "counts": {"queries": {s: len(p) for s, p in outcome.items()}, "gallery": dict.fromkeys(outcome, 400)},
        "queries": f"{path.stem}.parquet",
    }
    path.write_text(json.dumps(content))
    return path


def commit_runs(top: Path, project: str) -> Path:
    """Two commits, `first` and main, with two data sets in metrics and their tables under DVC; the project's folder."""
    root = top / project
    root.mkdir(parents=True, exist_ok=True)

    def git(*command: str) -> None:
        subprocess.run(["git", *command], cwd=top, check=True, capture_output=True)

    git("init", "-q", "-b", "main")
    git("config", "user.email", "t@example.org")
    git("config", "user.name", "t")
    repo = Repo.init(str(root), subdir=root != top)
    for tag, fiq, cirr in (("first", FIQ_A, CIRR_A), ("second", FIQ_B, CIRR_B)):
        for name, layout, outcome in (("fiq", "fashioniq", fiq), ("cirr", "cirr", cirr)):
            path = write_run(root / "metrics" / name / "clip.json", layout, outcome, root)
            (root / "data" / name).mkdir(parents=True, exist_ok=True)
            path.with_suffix(".parquet").replace(root / "data" / name / "queries.parquet")
            content = json.loads(path.read_text()) | {"queries": f"../../data/{name}/queries.parquet"}
            path.write_text(json.dumps(content))
        (root / "metrics" / "demo").mkdir(exist_ok=True)
        (root / "metrics" / "demo" / "encoder.json").write_text('{"gain": 1.0}')
        repo.add([str(root / "data" / name / "queries.parquet") for name in ("fiq", "cirr")])
        git("add", "-A")
        git("commit", "-q", "-m", tag)
        git("tag", tag)
    repo.close()
    return root
