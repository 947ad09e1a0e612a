"""Work on a Ray cluster of two raylets: the results of one machine, also when a raylet is killed."""

import sys
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from spn4cir.cli import app
from spn4cir.config.training import BankSettings
from spn4cir.errors import InputError
from spn4cir.evaluation.stored_gallery import store_gallery
from spn4cir.images import ray_cluster, usable
from spn4cir.images.decoding import image_fault, pixel_digest
from spn4cir.images.processes import map_in_processes
from spn4cir.images.ray_cluster import RayCluster
from spn4cir.images.workers import Workers
from spn4cir.positives.caption_store import CaptionStore
from spn4cir.positives.captions import make_captions
from spn4cir.positives.dedup import deduplicate
from spn4cir.positives.llava import load_captioner
from spn4cir.positives.unicom import Unicom, UnicomSizes, encode_images
from spn4cir.search.encode import encode_new
from spn4cir.search.image_files import ImageDigests
from spn4cir.search.stored_targets import StoredTargets
from spn4cir.training.bank import build_bank
from spn4cir.types import CaptionedImage, Gallery, UniqueImages
from tests.conftest import CPU
from tests.helpers.layouts import draw, write_fashioniq
from tests.helpers.stub import StubComposer
from tests.helpers.tiny_llava import save_tiny_llava
from tests.ray.conftest import ROOT, Nodes
from tests.ray.functions import KillingComposer, digest_or_kill, exit_worker, node

SETTINGS = BankSettings(dtype="float32", batch_size=4, reference="stored", images="annotated")


@pytest.fixture
def images(tmp_path: Path) -> UniqueImages:
    """Forty images, drawn from nineteen numbers."""
    names = tuple(f"i{number}" for number in range(40))
    paths = tuple(draw(tmp_path / "images" / f"{name}.png", row % 19) for row, name in enumerate(names))
    return UniqueImages(Gallery(names, paths), {name: row for row, name in enumerate(names)})


def bank(composer: Any, images: UniqueImages, folder: Path, workers: Workers) -> dict[str, bytes]:
    """Builds a bank, or continues it, and returns its files."""
    work = folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    build_bank(composer, images, SETTINGS, folder / "bank", work, workers, CPU)
    return {path.name: path.read_bytes() for path in sorted((folder / "bank").iterdir())}


def test_both_raylets_work_and_the_order_is_kept(
    cluster: RayCluster, images: UniqueImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_cluster, "_FILES_PER_TASK", 4)
    assert set(cluster.map_files(node, images.gallery.paths, "x")) == {"head", "second"}
    assert deduplicate(images.gallery, cluster) == deduplicate(images.gallery, 0)
    assert list(cluster.map_files(node, [], "x")) == []


def test_a_bank_has_the_same_bytes(cluster: RayCluster, images: UniqueImages, tmp_path: Path) -> None:
    here, there = (bank(StubComposer(), images, tmp_path / str(name), each) for name, each in enumerate((0, cluster)))
    assert here == there


def test_a_stored_gallery_has_the_same_bytes(cluster: RayCluster, images: UniqueImages, tmp_path: Path) -> None:
    """Some reference features are stored, so rows of both files come from workers that each have a part."""
    found = []
    for name, workers in (("here", 0), ("there", cluster)):
        work, out = tmp_path / name / "work", tmp_path / name / "gallery"
        work.mkdir(parents=True)
        store_gallery(StubComposer(), images.gallery, {1, 30}, 4, out, work, workers, CPU)
        found.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert found[0] == found[1]
    assert found[0].keys() == {"reference.npy", "target.npy", "manifest.json"}


def test_a_bank_is_continued_after_the_rows_that_are_written(
    cluster: RayCluster, images: UniqueImages, tmp_path: Path
) -> None:
    class Killed(StubComposer):
        def encode_image(self, images: torch.Tensor) -> Any:
            if self.encoded > 12:
                raise KeyboardInterrupt
            return super().encode_image(images)

    with pytest.raises(KeyboardInterrupt):
        bank(Killed(), images, tmp_path / "one", 0)
    for path in images.gallery.paths[:13]:
        path.rename(path.with_suffix(".away"))  # the finished images are not read
    continued = bank(StubComposer(), images, tmp_path / "one", cluster)
    for path in images.gallery.paths[:13]:
        path.with_suffix(".away").rename(path)
    assert continued == bank(StubComposer(), images, tmp_path / "two", 0)


def test_features_for_matching_are_equal(cluster: RayCluster, images: UniqueImages) -> None:
    torch.manual_seed(0)
    model = Unicom(UnicomSizes(32, 16, 16, 1, 1, 16, 16, 8)).eval()
    here, there = (torch.cat(list(encode_images(model, images.gallery.paths, 8, each, CPU))) for each in (0, cluster))
    assert torch.equal(here, there)


def test_an_index_gets_the_same_vectors(cluster: RayCluster, images: UniqueImages) -> None:
    """Copies are encoded once, in the batch of the first of them."""
    paths = [*images.gallery.paths, draw(images.gallery.paths[0].with_name("new.png"), 30)]
    known = set[bytes]().__contains__
    encode = partial(encode_new, StubComposer(), paths, known, device=CPU, skip=False, new_store=StoredTargets)
    (here, new), (there, others) = (encode(workers=each) for each in (0, cluster))
    assert list(here) == list(there)
    assert here.rows == there.rows
    assert all(isinstance(each, ImageDigests) for each in here)
    assert (new.count, new.shape) == (others.count, others.shape)
    assert new.stored is not None
    assert others.stored is not None
    assert (new.stored.targets(new.stored.ids) == others.stored.targets(others.stored.ids)).all()


def test_captions_are_equal(cluster: RayCluster, images: UniqueImages, tmp_path: Path) -> None:
    folder = str(save_tiny_llava(tmp_path / "captioner"))
    wanted = [
        CaptionedImage(name, path, "dress")
        for name, path in zip(images.gallery.names[:7], images.gallery.paths, strict=False)
    ]
    load = partial(load_captioner, folder, None, torch.float32, CPU, "none")
    here, there = (
        make_captions(
            wanted, 5, "describe the {noun} in {words} words", load, CaptionStore(tmp_path / str(name)), 3, 6, each
        )
        for name, each in enumerate((1, cluster))
    )
    assert here == there
    assert len({record["caption"] for record in here}) > 1


def test_a_command_checks_a_relative_folder(nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers start in another folder, and their messages name the path as it was given."""
    text = (ROOT / "params.yaml").read_text().replace("engine: local", "engine: ray")
    ray = f"{{address: '{nodes.address}', cpus_per_worker: 1, gpus_per_worker: 0}}"
    (tmp_path / "params.yaml").write_text(text.replace("ray: null", f"ray: {ray}"))
    write_fashioniq(tmp_path / "fiq")
    next((tmp_path / "fiq" / "images").iterdir()).write_bytes(b"no image")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(usable, "_FEW", 0)
    printed = []
    for options in ((), ("--workers", "0")):
        usable.SEEN.clear()
        done = CliRunner().invoke(app, ["check-data", "--layout", "fashioniq", "--root", "fiq", *options])
        # Ray itself prints here that a worker of an earlier test is lost.
        printed.append((done.exit_code, [line for line in done.stdout.splitlines() if "(raylet)" not in line]))
    assert printed[0] == printed[1]
    assert printed[0][0] == 1


@pytest.mark.parametrize("workers", ["here", "there"])
def test_a_broken_image_is_the_same_error(
    cluster: RayCluster, images: UniqueImages, tmp_path: Path, workers: str
) -> None:
    """Two images are broken; the first of them is named."""
    for row in (20, 7):
        images.gallery.paths[row].write_bytes(b"no image")
    each = cluster if workers == "there" else 0
    for work in (partial(deduplicate, images.gallery), partial(bank, StubComposer(), images, tmp_path / "bank")):
        with pytest.raises(InputError, match=r"^\S+/i7\.png: cannot be decoded \(no known image format\); replace"):
            work(each)


def test_a_raylet_is_killed_while_it_compares_images(
    nodes: Nodes,
    cluster: RayCluster,
    images: UniqueImages,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray_cluster, "_FILES_PER_TASK", 4)
    nodes.start("doomed")
    found = list(map_in_processes(digest_or_kill, images.gallery.paths, cluster, "dedup"))
    assert found == [pixel_digest(path) for path in images.gallery.paths]


def test_a_raylet_is_killed_while_it_encodes_a_bank(
    nodes: Nodes, cluster: RayCluster, images: UniqueImages, tmp_path: Path
) -> None:
    nodes.start("doomed")
    there = bank(KillingComposer(tmp_path), images, tmp_path / "there", cluster)
    assert (tmp_path / "killed").exists()
    assert there == bank(StubComposer(), images, tmp_path / "here", 0)


def test_what_ray_gave_up_is_started_again_at_the_first_batch_that_is_left(
    cluster: RayCluster,
    images: UniqueImages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Eleven batches; Ray gives up after three of them, again before the fourth, and after two more."""
    values, limits = ray_cluster._values, iter((3, 0, 2, 10))

    def giving_up(data: Any, label: str) -> Iterator[Any]:
        yield from islice(values(data, label), limit := next(limits))
        if limit < 10:
            raise ray_cluster._GaveUp("no connection")

    monkeypatch.setattr(ray_cluster, "_values", giving_up)
    assert bank(StubComposer(), images, tmp_path / "there", cluster) == bank(
        StubComposer(), images, tmp_path / "here", 0
    )
    assert next(limits, None) is None
    line = "encode bank: Ray gave up (no connection); {}/11 batches are done, starts the rest again"
    said = [each for each in capfd.readouterr().err.splitlines() if "gave up" in each]
    assert said == [line.format(done) for done in (3, 5)]  # the same line is written once


def test_an_image_that_always_ends_its_worker_ends_the_work(
    cluster: RayCluster, images: UniqueImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_cluster, "_RETRIES", 1)
    with pytest.raises(InputError, match=r"^dedup: Ray gave up .* run it again: finished work is kept"):
        list(map_in_processes(exit_worker, images.gallery.paths[:1], cluster, "dedup"))


@pytest.mark.parametrize("function", [pixel_digest, image_fault])
def test_a_file_that_only_a_worker_does_not_see_is_named(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: Any
) -> None:
    """`image_fault` raises nothing; without this check, the file would be reported as broken."""
    monkeypatch.setattr(ray_cluster, "is_seen", lambda path: True)  # in this process
    with pytest.raises(InputError, match=r"away\.png: the worker of Ray on \S+ does not see this file; put the proj"):
        list(map_in_processes(function, [tmp_path / "away.png"], cluster, "dedup"))


def test_code_that_a_worker_cannot_import_is_named(
    cluster: RayCluster, images: UniqueImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("def digest(path):\n    return b''\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here  # type: ignore[import-not-found]

    with pytest.raises(InputError, match=r"cannot import the code \(.*No module named 'only_here'\); install the pack"):
        list(map_in_processes(only_here.digest, images.gallery.paths, cluster, "dedup"))
    sys.modules.pop("only_here")
