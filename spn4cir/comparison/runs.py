"""Runs to compare: metrics files with their tables of queries, on disk or in a git revision."""

import glob
import os
import posixpath
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from spn4cir.comparison.metrics_entries import check_metrics, flat_scores, is_metrics
from spn4cir.comparison.query_rows import IDENTITY, read_queries_table
from spn4cir.config.load import find_project
from spn4cir.errors import InputError
from spn4cir.evaluation.score_recipe import RECIPE_KEY, Ranks, Recipe, part_values, read_recipe
from spn4cir.extras import install_command
from spn4cir.json_files import parse_json, read_json
from spn4cir.readable import check_file, real_path

# Larger than any rank: the subset rank of a query without a subset.
_NOWHERE = 1 << 40
# The name of the files on disk, as DVC calls them.
WORKSPACE = "workspace"
Place = tuple[str, str]


@dataclass(frozen=True)
class Run:
    """One metrics file and its table of queries.

    Attributes:
        label: file or revision it was read from, for messages.
        place: data set and family, from the path `metrics/<dataset>/<family>.json`.
        metrics: content of the metrics file.
        read: returns the bytes of a file, named relative to the folder of the metrics file; raises InputError if it
            cannot be read.
    """

    label: str
    place: Place
    metrics: dict[str, Any]
    read: Callable[[str], bytes]

    @property
    def scores(self) -> dict[str, float]:
        """The flat scores, in percent."""
        return flat_scores(self.metrics)

    @cached_property
    def table(self) -> pa.Table:
        """The table of queries, sorted so that all runs over the same queries have the same order.

        Raises InputError if the metrics file names no table, or the table is not valid.
        """
        name = self.metrics.get("queries")
        if not isinstance(name, str):
            raise InputError(f"{self.label}: names no table of queries; run validate again, which writes one")
        table = read_queries_table(self.read(name), f"{self.label}: {name}")
        return table.sort_by([(column, "ascending") for column in IDENTITY])

    @property
    def queries(self) -> list[tuple[Any, ...]]:
        """The identity of each query: split, number, reference, target."""
        return list(zip(*(self.table[column].to_pylist() for column in IDENTITY), strict=True))

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe that computes the scores from the ranks. Raises InputError if the table contains no valid one."""
        try:
            return read_recipe(self.table.schema.metadata[RECIPE_KEY])
        except ValueError:
            raise InputError(f"{self.label}: its table of queries has no valid recipe; run validate again") from None

    @cached_property
    def ranks(self) -> Ranks:
        """Ranks by split and column.

        Raises InputError if they lack a part of the recipe, or do not yield the scores of the metrics file.
        """
        ranks = table_ranks(self.table)
        for part in (part for parts in self.recipe.values() for part in parts):
            if (part.split, part.column) not in ranks:
                raise InputError(
                    f"{self.label}: its table of queries has no column '{part.column}' of split '{part.split}', which "
                    "its scores need; run validate again"
                )
        for score, parts in self.recipe.items():
            made = 100 * sum(weight * float(np.mean(part_values(ranks, part))) for part, weight in parts.items())
            if abs(made - self.scores.get(score, -1.0)) > 1e-6:
                raise InputError(
                    f"{self.label}: its table of queries gives {score} {made:.2f}, the file says "
                    f"{self.scores.get(score)}; they belong to two runs: commit metrics with dvc.lock, "
                    "or dvc checkout, or run validate again"
                )
        return ranks


def table_ranks(table: pa.Table) -> Ranks:
    """Ranks by split and column of a table of queries, in the order of its rows."""
    split = np.array(table["split"].to_pylist())
    ranks = {
        (name, column): table[column].fill_null(_NOWHERE).to_numpy()[split == name]
        for name in dict.fromkeys(split.tolist())
        for column in ("rank", "subset_rank")
    }
    if "target_ranks" in table.column_names:
        places = _padded(table["target_ranks"].to_pylist())
        ranks |= {(name, "target_ranks"): places[split == name] for name in dict.fromkeys(split.tolist())}
    return ranks


def _padded(rows: list[list[int]]) -> Int[np.ndarray, "queries targets"]:
    """Lists of different lengths as one array, padded with 0."""
    width = max(map(len, rows), default=0)
    return np.array([row + [0] * (width - len(row)) for row in rows], dtype=np.int64).reshape(len(rows), width)


def read_runs(name: str) -> dict[Place, Run]:
    """Reads the run of a metrics file, or the runs of a revision or an experiment, one for each data set and family.

    The name `workspace` reads the files on disk of the project that contains this folder.

    Raises:
        InputError: there is nothing of that name, or it contains no metrics file.
    """
    if Path(name).is_file():
        run = _read_file(Path(name))
        return {run.place: run}
    if name.endswith(".json"):
        check_file(Path(name))
        raise InputError(f"{name}: no such metrics file; write one with: spn4cir validate --json {name}")
    return _read_workspace() if name == WORKSPACE else _read_revision(name)


def run_files(name: str) -> list[Path]:
    """Returns the files on disk that `read_runs` reads for a name, with their tables of queries; none for a revision.

    A file that is not a metrics file is left to `read_runs`.
    """
    if name == WORKSPACE and not Path(name).is_file():
        project = find_project(Path.cwd())
        files = [] if project is None else sorted((project / "metrics").glob("*/*.json"))
    else:
        files = [Path(name)] if os.path.isfile(name) else []  # noqa: PTH113 - a name may be too long for a path
    return [each for file in files for each in (file, *_tables(file))]


def _tables(path: Path) -> Iterator[Path]:
    """The tables of queries of a metrics file: its own, and those of its adjusted scores."""
    with suppress(InputError):
        content = read_json(path)
        name = content.get("queries") if isinstance(content, dict) else None
        if isinstance(name, str):
            table = path.parent / name
            yield table
            yield from sorted((table.parent / "adjusted").glob("*.parquet"))


def _read_workspace() -> dict[Place, Run]:
    """The runs of the metrics files on disk. Raises InputError if there are none."""
    project = find_project(Path.cwd())
    files = [] if project is None else sorted((project / "metrics").glob("*/*.json"))
    runs = {run.place: run for run in (_read_file(path) for path in files if is_metrics(read_json(path)))}
    if not runs:
        raise InputError(
            f"{WORKSPACE}: there is no project in reach with metrics/<data set>/<family>.json; change into its folder, "
            "or run dvc repro"
        )
    return runs


def _read_file(path: Path) -> Run:
    metrics = read_json(path)
    if not is_metrics(metrics):
        raise InputError(f"{path}: is not a metrics file; give one that spn4cir validate wrote")
    check_metrics(metrics, str(path))

    def read(name: str) -> bytes:
        place = path.parent / name
        try:
            if place.is_file():
                return place.read_bytes()
        except OSError as error:
            raise InputError(f"{path}: its table cannot be read ({error.strerror}); run validate again") from None
        raise InputError(f"{path}: its table {place} is missing; run dvc pull validate, or validate")

    absolute = real_path(path)
    return Run(str(path), (absolute.parent.name, absolute.stem), metrics, read)


def _read_revision(name: str) -> dict[Place, Run]:
    files, root = _open_revision(name)
    runs = {}
    for found in files.glob(f"{glob.escape(root)}metrics/*/*.json"):
        path = found.removeprefix(root)
        label = f"{name}:{path}"
        metrics = _parse(files.read_bytes(found), label)
        if is_metrics(metrics):
            check_metrics(metrics, label)
            place = (posixpath.basename(posixpath.dirname(path)), posixpath.basename(path).removesuffix(".json"))
            runs[place] = Run(label, place, metrics, _reader(files, root, name, posixpath.dirname(path)))
    if not runs:
        raise InputError(
            f"{name}: the revision contains no metrics/<data set>/<family>.json; commit one, or name a file"
        )
    return runs


def _parse(content: bytes, label: str) -> Any:
    try:
        return parse_json(content.decode("utf-8-sig"))
    except ValueError as error:
        raise InputError(f"{label}: is not valid JSON ({error}); commit one that spn4cir validate wrote") from None


def _open_revision(name: str) -> tuple[Any, str]:
    """The files of a revision, including DVC outs, and the path from the git root to the DVC root.

    The path is empty, or ends with `/` if the project is in a folder of a repository (`dvc init --subdir`).
    """
    with dvc_errors(name):
        from dvc.api import DVCFileSystem
        from dvc.repo import Repo

        project = Repo.find_root()
        files = DVCFileSystem(project, rev=name, subrepos=True)
        root = Path(project).resolve().relative_to(Path(files.repo.scm.root_dir).resolve()).as_posix()
        return files, "" if root == "." else f"{root}/"


@contextmanager
def dvc_errors(name: str) -> Iterator[None]:
    """Turns the errors of a block that reads a revision through DVC, which may not be installed, into InputErrors."""
    try:
        import_module("dvc.api")
        from dvc.exceptions import DvcException, NotDvcRepoError
    except ImportError:
        raise InputError(
            f"{name}: no such metrics file; a revision or an experiment needs DVC; run {install_command('dvc')}"
        ) from None
    try:
        yield
    except NotDvcRepoError:
        raise InputError(
            f"{name}: no such metrics file, and this folder is not in a DVC repository; name a file, or change into "
            "the folder of the project"
        ) from None
    except DvcException as error:
        raise InputError(
            f"{name}: no such metrics file, revision or experiment ({error}); see dvc exp list and git log"
        ) from None


def _reader(files: Any, root: str, revision: str, folder: str) -> Callable[[str], bytes]:
    from dvc.exceptions import DvcException

    def read(name: str) -> bytes:
        path = posixpath.normpath(posixpath.join(folder, name))
        try:
            return bytes(files.read_bytes(root + path))
        except (OSError, DvcException):
            raise InputError(
                f"{revision}: {path} is neither in DVC's cache nor in a remote; run dvc fetch --all-commits if a "
                f"remote has it, or run {revision} again and commit metrics with dvc.lock"
            ) from None

    return read
