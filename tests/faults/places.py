"""The folders that a case spoils: copies of small data sets, which are drawn once."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from typer.testing import CliRunner

from spn4cir.cli import app
from spn4cir.config.load import published_file
from spn4cir.datasets import open_benchmark, submittable
from tests.helpers.benchmarks import write_circo, write_genecis
from tests.helpers.checkpoints import write_checkpoint
from tests.helpers.layouts import write, write_cirr, write_fashioniq, write_folder
from tests.helpers.open_clip_folders import wide_state, write_base
from tests.helpers.pools import write_folders, write_part_files, write_tars
from tests.helpers.runs import CIRR_A, CIRR_B, FIQ_A, write_run
from tests.helpers.tables import write_benchmark, write_rows


def _write_hub_folder(root: Path) -> None:
    _command("export", "--to", "hub-folder", "--checkpoint", _checkpoint(root), "--out", root)


def _write_index(root: Path) -> None:
    gallery = write_folder(root.parent / "gallery", images=6)
    _command("index", "--checkpoint", _checkpoint(root), "--gallery", gallery, "--out", root, "--workers", 0)


def _write_runs(root: Path) -> None:
    """Two runs of CIRR's layout, one of FashionIQ's, and the images of the first two."""
    write_cirr(root, 1, 1, 1)
    for name, outcome in (("a", CIRR_A), ("b", CIRR_B)):
        write_run(root / "cirr" / f"{name}.json", "cirr", outcome, root)
    write_run(root / "fiq" / "clip.json", "fashioniq", FIQ_A, root)


def _write_submissions(root: Path) -> None:
    """The test queries of CIRR without images, and a valid file of each kind for its server."""
    _write_lists("cirr", write_cirr(root, 1, 1, 9))
    for name in ("train", "dev", "test1"):
        shutil.rmtree(root / name)


def _write_circo_submissions(root: Path) -> None:
    """The queries of CIRCO without images, and a valid file for its server."""
    _write_lists("circo", write_circo(root))
    shutil.rmtree(root / "COCO2017_unlabeled" / "unlabeled2017")


def _write_lists(layout: str, root: Path) -> None:
    served = submittable(layout, open_benchmark(layout, root, "error"))
    queries, gallery = served.test_queries()
    for file in served.submission:
        lists: dict[str, Any] = dict(file.header)
        for query in queries:
            names = query.subset_names if file.of_subset else gallery
            kept = [name for name in names if name != query.reference_name][: file.count]
            lists[str(query.query_id)] = [int(name) for name in kept] if file.integers else kept
        write(root / f"{file.metric}.json", lists)


def _write_project(root: Path) -> None:
    """The pipeline with the published settings of a data set and two benchmarks, which are parsed in half the time."""
    yaml, kept = YAML(), {"fiq", "circo", "genecis"}
    content = yaml.load(published_file().read_text(encoding="utf-8"))
    for section in (each for each in content.values() if isinstance(each, dict) and not each.keys().isdisjoint(kept)):
        for name in section.keys() - kept:
            del section[name]
    content["run"] |= {"datasets": ["fiq"], "models": ["clip"], "submit": [], "benchmarks": []}
    root.mkdir(parents=True)
    yaml.dump(content, root / "params.yaml")
    shutil.copy(published_file().with_name("dvc.yaml"), root)


def _checkpoint(root: Path) -> Path:
    path = root.parent / "best.pt"
    return path if path.exists() else write_checkpoint(path)


def _command(*words: object) -> None:
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 0, result.output


WRITERS: dict[str, Callable[[Path], object]] = {
    "fashioniq": lambda root: write_fashioniq(root, images=2),
    "cirr": lambda root: write_cirr(root, 1, 1, 1),
    "circo": lambda root: write_circo(root, images=8, val=2, test=2),
    "genecis": lambda root: write_genecis(root, queries=1, distractors=2),
    "folder": lambda root: write_folder(root, images=8),
    "table": write_rows,
    "benchmark": write_benchmark,
    "part files": lambda root: write_part_files(root, parts=(0,)),
    "folders": lambda root: write_folders(root, parts=(0,)),
    "tars": lambda root: write_tars(root, parts=(0,)),
    "hub folder": _write_hub_folder,
    "index": _write_index,
    "runs": _write_runs,
    "submissions": _write_submissions,
    "circo submissions": _write_circo_submissions,
    "project": _write_project,
    "base": lambda root: write_base(root, wide_state(2, 3)),
    "weights": lambda root: write_checkpoint(root / "best.pt"),
}


class Place(NamedTuple):
    """The folders of a case.

    Attributes:
        templates: folder of the data sets that cases copy.
        data: folder of the copies, where nothing may be changed.
        work: the working folder of the command, where nothing may be written.
    """

    templates: Path
    data: Path
    work: Path

    @property
    def cache(self) -> Path:
        """The folder of downloads, which is not there at first."""
        return self.work.with_name("cache")

    def copy(self, name: str) -> Path:
        """Returns a copy of a data set; its files are links, so `spoil` replaces them."""
        template = self.templates / name
        if not template.is_dir():
            WRITERS[name](template)
        return Path(shutil.copytree(template, self.data / name, copy_function=os.link))


def spoil(path: Path, content: bytes | str) -> Path:
    """Replaces a file."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def edit(path: Path, change: Callable[[Any], Any]) -> Path:
    """Replaces a file of JSON: `change` returns another value, or changes the value and returns None."""
    value = json.loads(path.read_bytes())
    changed = change(value)
    return spoil(path, json.dumps(value if changed is None else changed))
