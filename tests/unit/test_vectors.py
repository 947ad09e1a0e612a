"""Vectors of every kind of index, against the whole matrix of scores."""

import errno
import gc
import os
import signal
import subprocess
import sys

import faiss
import numpy as np
import pytest

from spn4cir.errors import InputError
from spn4cir.search import build_lists, stored_targets
from spn4cir.search import vectors as module
from spn4cir.search.faiss_files import write_faiss
from spn4cir.search.mapped_files import MappedFile
from spn4cir.search.stored_targets import StoredTargets
from spn4cir.search.tune_lists import _nearest
from spn4cir.search.vectors import KindSettings, Vectors
from tests.helpers.memory import peak_bytes_each

DIM = 16


def unit(rng, *shape) -> np.ndarray:
    drawn = rng.standard_normal((*shape, DIM)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)


def clustered(rng, count: int, tokens: int) -> np.ndarray:
    """Vectors around 20 centres, as those of similar images are."""
    drawn = unit(rng, 20)[rng.integers(20, size=(count, 1))] + 0.4 * unit(rng, count, tokens)
    return drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)


NONE = np.empty(0, np.int64)
EVERYTHING = KindSettings("ivf", 1.0)


def add(held: Vectors, ids: np.ndarray, targets: np.ndarray, removed: np.ndarray = NONE) -> None:
    stored = StoredTargets(held.tokens, DIM)
    for start in range(0, len(targets), 100):
        stored.append(np.arange(start, min(start + 100, len(targets))), targets[start : start + 100])
    held.update(ids, stored, removed)


def filled(targets: np.ndarray, settings: KindSettings | None = None) -> Vectors:
    held = Vectors.empty(targets.shape[1], DIM, settings)
    add(held, np.arange(len(targets)), targets)
    return held


def remove(held: Vectors, *ids: int) -> None:
    held.update(NONE, StoredTargets(held.tokens, DIM), np.array(ids))


def reread(held: Vectors, folder) -> Vectors:
    folder.mkdir()
    held.write(folder)
    return Vectors.read(folder, held.kind, held.tokens, held.settings, (held.candidates, held.recall))


def top(held: Vectors, queries: np.ndarray, count: int) -> list[list[int]]:
    """The ids of the best, scored as a family scores: the largest dot product with a token."""
    scores = [lambda targets, query=query: (targets @ query).max(axis=1) for query in queries]
    best = held.best(queries, [count] * len(queries), scores)
    return [ids[np.argsort(-found, kind="stable")][:count].tolist() for ids, found in best]


def expected(targets: np.ndarray, queries: np.ndarray, count: int) -> list[list[int]]:
    return [np.argsort(-(targets @ query).max(axis=1), kind="stable")[:count].tolist() for query in queries]


@pytest.mark.parametrize("tokens", [1, 32])
@pytest.mark.parametrize("count", [1, 10, 150, 300])
def test_the_best_are_those_of_the_whole_matrix(tokens, count):
    rng = np.random.default_rng(tokens)
    targets, queries = clustered(rng, 300, tokens), unit(rng, 7)
    assert top(filled(targets), queries, count) == expected(targets, queries, count)


def test_an_image_that_fills_the_list_of_vectors_hides_no_other():
    """Its 32 tokens are the 32 nearest vectors of the query."""
    rng = np.random.default_rng(0)
    targets, query = clustered(rng, 100, 32), unit(rng, 1)
    targets[40] = query
    assert top(filled(targets), query, 3) == expected(targets, query, 3)


def test_equal_scores_are_all_handed_over():
    """The caller can sort them by name, even if it asks for fewer."""
    rng = np.random.default_rng(0)
    targets, query = clustered(rng, 200, 1), unit(rng, 1)
    targets[10:130] = query
    ((ids, _),) = filled(targets).best(query, [1], [lambda found: found[:, 0] @ query[0]])
    assert set(ids.tolist()) >= set(range(10, 130))


@pytest.mark.parametrize("kind", ["exact", "ivf"])
def test_an_updated_index_equals_a_new_one(kind):
    """Images are removed and added, in an exact and an approximate index (all lists searched)."""
    rng = np.random.default_rng(0)
    targets, queries = clustered(rng, 400, 2), unit(rng, 5)
    held = filled(targets[:300], KindSettings(kind, 1.0))
    add(held, np.arange(300, 400), targets[300:], np.arange(0, 300, 7))
    targets[:300:7] = 0
    assert held.kind == kind
    assert len(held) == 400 - len(range(0, 300, 7))
    assert top(held, queries, 9) == expected(targets, queries, 9)


def test_the_kind_follows_the_number_of_vectors(monkeypatch, capsys):
    """The first limit counts vectors, the second one images; the recall is measured and printed."""
    monkeypatch.setattr(module, "EXACT_BELOW", 600)
    monkeypatch.setattr(module, "PQ_FROM", 301)
    targets = clustered(np.random.default_rng(0), 301, 2)
    held = filled(targets[:299])
    assert (held.kind, held.recall) == ("exact", None)
    assert not capsys.readouterr().err
    add(held, np.array([299]), targets[299:300])
    assert held.kind == "ivf"
    assert held.recall >= 0.95
    said = capsys.readouterr().err
    assert said.startswith("index: 300 vectors in 17 lists (ivf), ")
    assert f"finds {held.recall:.1%} of the results of an exact search (the 10 best of 100 queries)" in said
    add(held, np.array([300]), targets[300:])
    assert held.kind == "ivf-pq"
    remove(held, 17, 18)
    assert (held.kind, held.recall) == ("exact", None)
    targets[17:19] = 0
    queries = unit(np.random.default_rng(1), 4)
    pairs = zip(top(held, queries, 5), expected(targets, queries, 5), strict=True)
    assert np.mean([len(set(one) & set(other)) for one, other in pairs]) > 4.5


@pytest.mark.parametrize(("kind", "tokens"), [("ivf", 1), ("ivf", 4), ("ivf-pq", 1), ("ivf-pq", 4)])
def test_the_reported_recall_is_reached_with_exact_scores(kind, tokens):
    rng = np.random.default_rng(0)
    targets = clustered(rng, 2_000, tokens)
    held = filled(targets, KindSettings(kind))
    pairs = rng.integers(2_000, size=(2, 200)), rng.integers(tokens, size=(2, 200))
    queries = targets[pairs].sum(axis=0)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    found, wanted = top(held, queries, 10), expected(targets, queries, 10)
    met = np.mean([len(set(one) & set(other)) / 10 for one, other in zip(found, wanted, strict=True)])
    assert held.recall >= 0.95
    assert met == pytest.approx(held.recall, abs=0.05)
    score = lambda targets: (targets @ queries[0]).max(axis=1)  # noqa: E731
    ((ids, scores),) = held.best(queries[:1], [10], [score])
    assert scores == pytest.approx((targets[ids] @ queries[0]).max(axis=1), abs=1e-6 if kind == "ivf" else 5e-4)


def test_another_wanted_recall_searches_more_lists(capsys):
    targets = clustered(np.random.default_rng(0), 1_000, 1)
    held = filled(targets, KindSettings("ivf", 0.5))
    few = held.recall
    held.settings = EVERYTHING
    held.update(NONE, StoredTargets(1, DIM), NONE)
    assert few < 1
    assert held.recall == 1
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.parametrize("kind", ["ivf", "ivf-pq"])
def test_an_approximate_index_gives_the_whole_gallery_when_asked(kind):
    rng = np.random.default_rng(0)
    targets, queries = clustered(rng, 300, 1), unit(rng, 2)
    held = filled(targets, KindSettings(kind))
    assert held.approximate
    assert [set(found) for found in top(held, queries, 300)] == [set(range(300))] * 2


def test_the_hits_of_a_smaller_count_are_the_first_of_a_larger_one():
    rng = np.random.default_rng(0)
    targets, queries = clustered(rng, 1_000, 3), unit(rng, 6)
    held = filled(targets, KindSettings("ivf-pq"))
    assert [found[:7] for found in top(held, queries, 20)] == top(held, queries, 7)


def test_the_hits_of_a_query_do_not_depend_on_the_others_of_a_call():
    """A wanted recall of 0.3 finds other images with more candidates."""
    rng = np.random.default_rng(0)
    targets, queries = clustered(rng, 2_000, 8), unit(rng, 50)
    held = filled(targets, KindSettings("ivf-pq", 0.3))
    alone, deeper = top(held, queries, 10), top(held, queries, 40)
    assert alone != [found[:10] for found in deeper]
    scores = [lambda targets, query=query: (targets @ query).max(axis=1) for query in queries]
    best = held.best(queries, [21 if row % 2 else 60 for row in range(50)], scores)
    found = [ids[np.argsort(-values, kind="stable")][:10].tolist() for ids, values in best]
    assert found[1::2] == alone[1::2]


def test_too_few_images_for_product_codes_have_plain_lists():
    """An index that shrinks below the limit stays usable, and one without images is exact."""
    targets = clustered(np.random.default_rng(0), 256, 1)
    held = filled(targets, KindSettings("ivf-pq"))
    assert held.kind == "ivf-pq"
    remove(held, 5)
    assert held.kind == "ivf"
    remove(held, *range(5), *range(6, 256))
    assert (len(held), held.kind) == (0, "exact")
    add(held, np.array([256]), targets[:1])
    assert top(held, targets[0], 1) == [[256]]


def lists_told(capsys) -> list[int]:
    """The number of lists at each measurement of the recall."""
    return [int(line.split()[4]) for line in capsys.readouterr().err.splitlines() if line.startswith("index:")]


def measured(held: Vectors, targets: np.ndarray, alive: np.ndarray) -> float:
    """The recall of 300 midpoints of pairs of images."""
    pairs = np.random.default_rng(7).choice(alive, size=(2, 300))
    queries = targets[pairs, 0].sum(axis=0)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    present = np.zeros_like(targets)
    present[alive] = targets[alive]
    pairs = zip(top(held, queries, 10), expected(present, queries, 10), strict=True)
    return float(np.mean([len(set(one) & set(other)) / 10 for one, other in pairs]))


def test_lists_are_made_again_when_there_are_many_more_vectors(capsys, monkeypatch, tmp_path):
    """Above four times as many images, also with the greatest number of lists, and after the index was read."""
    monkeypatch.setattr("spn4cir.search.inverted_lists._MOST_LISTS", 10)
    targets = clustered(np.random.default_rng(0), 1_000, 1)
    held = filled(targets[:120], KindSettings("ivf"))
    monkeypatch.setattr("spn4cir.search.inverted_lists._MOST_LISTS", 20)
    add(held, np.arange(120, 480), targets[120:480])
    held = reread(held, tmp_path / "a")
    assert lists_told(capsys) == [10, 10]
    add(held, np.arange(480, 481), targets[480:481])
    assert lists_told(capsys) == [20]
    add(held, np.arange(481, 1_000), targets[481:])
    assert lists_told(capsys) == [20]
    assert len(held) == 1_000


@pytest.mark.parametrize("kind", ["ivf", "ivf-pq"])
def test_the_recall_is_kept_while_other_images_are_added(kind):
    """The lists of images around 20 centres do not fit to images without centres: more lists are searched."""
    rng = np.random.default_rng(0)
    targets = np.concatenate([clustered(rng, 800, 1), unit(rng, 2_000, 1)])
    held = filled(targets[:800], KindSettings(kind))
    for start in range(800, 2_800, 250):
        add(held, np.arange(start, start + 250), targets[start : start + 250])
    assert held.recall >= 0.95
    assert measured(held, targets, np.arange(2_800)) == pytest.approx(held.recall, abs=0.04)


def test_the_recall_is_measured_after_a_tenth_changed(capsys, tmp_path):
    """Not at each small update, also when the index is written and read between them."""
    targets = clustered(np.random.default_rng(0), 1_250, 1)
    held = filled(targets[:1_000], KindSettings("ivf"))
    for number, start in enumerate(range(1_000, 1_250, 25)):
        add(held, np.arange(start, start + 25), targets[start : start + 25], np.array([number]))
        held = reread(held, tmp_path / str(number))
    said = [line.split()[1] for line in capsys.readouterr().err.splitlines()]
    assert said == ["1000", "1096", "1216"]
    held.update(NONE, StoredTargets(1, DIM), NONE)
    assert not lists_told(capsys)


def test_lists_are_made_again_when_their_images_are_gone(tmp_path):
    """A gallery of other images has lists of its own, also when it was replaced little by little."""
    rng = np.random.default_rng(0)
    targets = np.concatenate([clustered(rng, 600, 1), unit(rng, 600, 1)])
    held = filled(targets[:600], KindSettings("ivf"))
    add(held, np.arange(600, 1_000), targets[600:1_000], np.arange(300))
    assert held._index._built == (600, 600)
    held = reread(held, tmp_path / "a")
    add(held, np.arange(1_000, 1_200), targets[1_000:], np.arange(300, 600))
    assert held._index._built == (600, 1_200)
    assert measured(held, targets, np.arange(600, 1_200)) == pytest.approx(held.recall, abs=0.04)


def test_lists_that_do_not_reach_the_recall_are_made_again_after_changes(monkeypatch):
    """With fewer candidates than the codes of other images need."""
    monkeypatch.setattr("spn4cir.search.tune_lists._MOST_CANDIDATES", 20)
    rng = np.random.default_rng(0)
    targets = np.concatenate([clustered(rng, 1_000, 1), unit(rng, 300, 1)])
    held = filled(targets[:1_000], KindSettings("ivf-pq", 1.0))
    before = held._index._built
    held.settings = KindSettings("ivf-pq", 0.999)
    held.update(NONE, StoredTargets(1, DIM), NONE)
    assert held._index._built == before, "new lists of the same images are not better"
    add(held, np.arange(1_000, 1_300), targets[1_000:])
    assert (before, held._index._built) == ((1_000, 1_000), (1_300, 1_300))
    assert held.recall < 0.999


def test_lists_of_an_index_without_marks_are_measured_at_the_next_update(tmp_path, capsys):
    """An earlier version wrote none, and measured at builds only."""
    targets = clustered(np.random.default_rng(0), 300, 1)
    held = filled(targets, KindSettings("ivf"))
    reread(held, tmp_path / "a")
    (tmp_path / "a" / "vectors" / "marks.npy").unlink()
    again = Vectors.read(tmp_path / "a", "ivf", 1, held.settings, (64, 0.1))
    assert (again.recall, len(lists_told(capsys))) == (0.1, 1)
    again.update(NONE, StoredTargets(1, DIM), NONE)
    assert again.recall == held.recall
    again.update(NONE, StoredTargets(1, DIM), NONE)
    assert len(lists_told(capsys)) == 1


@pytest.mark.parametrize("kind", ["exact", "ivf", "ivf-pq"])
def test_written_and_read_it_answers_the_same_and_can_be_changed(tmp_path, kind):
    """Its files stay as they are when the index changes."""
    rng = np.random.default_rng(0)
    targets, queries = clustered(rng, 300, 2), unit(rng, 5)
    held = filled(targets, KindSettings(kind, 1.0))
    again = reread(held, tmp_path / "a")
    written = {path: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()}
    assert (len(again), again.kind, again.recall) == (300, kind, held.recall)
    assert top(again, queries, 9) == top(held, queries, 9)
    for each in (held, again):
        remove(each, 3, 4)
        add(each, np.array([300]), targets[3:4])
    assert top(again, queries, 9) == top(held, queries, 9)
    assert np.allclose(again.targets(np.array([300, 5])), targets[[3, 5]], atol=5e-4)
    assert {path: path.read_bytes() for path in written} == written
    third = reread(again, tmp_path / "b")
    assert top(third, queries, 9) == top(held, queries, 9)


@pytest.fixture
def small_limits(monkeypatch):
    """Shards and lists of a few kilobytes, so that all go to files."""
    monkeypatch.setattr(stored_targets, "CHUNK_BYTES", 4_000)
    monkeypatch.setattr(stored_targets, "SHARD_BYTES", 8_000)
    monkeypatch.setattr(stored_targets, "IN_MEMORY", 8_000)
    monkeypatch.setattr(build_lists, "IN_MEMORY", 0)
    monkeypatch.setattr(build_lists, "SHARD_BYTES", 4_000)


@pytest.mark.parametrize("kind", ["ivf", "ivf-pq"])
def test_a_gallery_beyond_memory_is_built_in_shards_on_the_disk(small_limits, tmp_path, kind, capfd):
    rng = np.random.default_rng(0)
    targets, queries = clustered(rng, 1_000, 1), unit(rng, 5)
    held = filled(targets, KindSettings(kind, 1.0))
    again = reread(held, tmp_path / "a")
    assert (tmp_path / "a" / "lists.ivfdata").is_file()
    assert len(list((tmp_path / "a" / "vectors").glob("0*.npy"))) > 3
    said = capfd.readouterr()
    assert (said.out, "resizing" in said.err) == ("", False)
    temporary = [shard.file for shard in held._index._stored._shards if shard.file]
    temporary += held._index.lists.files.values()
    inodes = {MappedFile.of(path).inode for path in (tmp_path / "a").rglob("*")}
    assert len(temporary) > 2
    assert inodes >= {file.inode for file in temporary}, "temporary files are linked"
    assert top(held, queries, 9) == top(again, queries, 9)
    assert kind == "ivf-pq" or top(held, queries, 9) == expected(targets, queries, 9)
    shard = tmp_path / "a" / "vectors" / "00000.npy"
    reread(again, tmp_path / "b")
    assert (tmp_path / "b" / "vectors" / "00000.npy").samefile(shard), "files that do not change are linked"
    remove(again, *range(0, 1_000, 2))
    reread(again, tmp_path / "c")
    assert len(StoredTargets.read(tmp_path / "c" / "vectors")) == 500
    size = sum(path.stat().st_size for path in (tmp_path / "c" / "vectors").glob("0*.npy"))
    assert size < 0.6 * sum(path.stat().st_size for path in (tmp_path / "a" / "vectors").glob("0*.npy"))


KILLED = """
import os, signal
import numpy as np
from spn4cir.search import build_lists, stored_targets
from spn4cir.search.vectors import KindSettings, Vectors
stored_targets.SHARD_BYTES = stored_targets.IN_MEMORY = build_lists.IN_MEMORY = build_lists.SHARD_BYTES = 1_000
rng = np.random.default_rng(0)
settings = KindSettings("ivf")
stored = settings.store(400, 1, 8)
for start in range(0, 400, 100):
    stored.append(np.arange(start, start + 100), rng.standard_normal((100, 1, 8)).astype(np.float32))
held = Vectors.empty(1, 8, settings)
held.update(np.arange(400), stored, np.empty(0, np.int64))
assert held._index._stored._files and held._index.lists.temporary
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="this system has no files without a name")
def test_a_process_that_is_killed_leaves_no_temporary_files(tmp_path):
    made = subprocess.run([sys.executable, "-c", KILLED], env={**os.environ, "TMPDIR": str(tmp_path)}, check=False)
    assert made.returncode == -signal.SIGKILL
    assert not list(tmp_path.iterdir())


def test_temporary_files_have_names_where_the_system_needs_them(small_limits, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile._O_TMPFILE_WORKS", False)
    monkeypatch.setattr("os.O_TMPFILE", os.O_DIRECTORY, raising=False)  # as on a disk that has no such files
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    targets = clustered(np.random.default_rng(0), 500, 1)
    held = filled(targets, EVERYTHING)
    assert list(tmp_path.glob("spn4cir-*/file"))
    again = reread(held, tmp_path / "a")
    del held
    gc.collect()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert top(again, targets[:3, 0], 9) == expected(targets, targets[:3, 0], 9)


def test_a_file_that_another_process_replaced_is_written_from_memory(small_limits, tmp_path):
    targets = clustered(np.random.default_rng(0), 500, 1)
    held = reread(filled(targets, EVERYTHING), tmp_path / "a")
    for path in (tmp_path / "a").rglob("*.*"):
        path.unlink()
        path.write_bytes(b"another index")
    again = reread(held, tmp_path / "b")
    assert np.array_equal(again.targets(np.arange(500)), targets)
    assert top(again, targets[:3, 0], 9) == expected(targets, targets[:3, 0], 9)


@pytest.mark.parametrize("tokens", [1, 2])
def test_lists_of_an_earlier_version_are_read(tmp_path, tokens):
    """They contained every vector, under the keys of an exact index."""
    targets = clustered(np.random.default_rng(0), 200, tokens)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(DIM), DIM, 5, faiss.METRIC_INNER_PRODUCT)
    flat = targets.reshape(-1, DIM)
    index.train(flat)
    index.set_direct_map_type(faiss.DirectMap.Hashtable)
    index.add_with_ids(flat, np.arange(len(flat)))
    write_faiss(index, tmp_path / "vectors.faiss")
    held = Vectors.read_earlier(tmp_path, tokens)
    assert np.array_equal(held.targets(np.arange(200)), targets)
    assert top(held, targets[:3, 0], 9) == expected(targets, targets[:3, 0], 9)


def test_a_full_disk_of_temporary_files_is_one_line(small_limits, monkeypatch, tmp_path):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(InputError, match="the disk has 0 MB free; free some room, or set TMPDIR"):
        filled(clustered(np.random.default_rng(0), 300, 1), KindSettings("ivf"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("lists", None), "kind 'lists' is not known; choose one of auto, exact, ivf, ivf-pq"),
        (("ivf", 2), "recall is 2"),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        KindSettings(*settings)


@pytest.mark.parametrize(("place", "code"), [("/dev/full", errno.ENOSPC), ("nowhere/vectors.faiss", errno.ENOENT)])
def test_a_failed_write_is_the_systems_error(tmp_path, place, code):
    """A full disk is reported in one line."""
    index = faiss.IndexFlatIP(DIM)
    index.add(unit(np.random.default_rng(0), 500))
    with pytest.raises(OSError, match=os.strerror(code)) as raised:
        write_faiss(index, tmp_path / place)
    assert raised.value.errno == code


def test_the_exact_search_of_the_recall_takes_little_memory():
    """The scores of 100 queries take more than short vectors: all at once, 2,800 bytes for each vector."""
    rng, dim = np.random.default_rng(0), 4
    queries = rng.standard_normal((100, dim), dtype=np.float32)

    def compare(count: int) -> None:
        targets = np.random.default_rng(1).standard_normal((count, 1, dim), dtype=np.float32)
        stored = StoredTargets(1, dim)
        stored.append(np.arange(count), targets)
        found = _nearest(stored, queries)
        wanted = np.argpartition(-(queries @ targets[:, 0].T), 9, axis=1)[:, :10]
        assert (np.sort(found) == np.sort(wanted)).all()

    def exact_only(count: int) -> None:
        stored = StoredTargets(1, dim)
        stored.append(np.arange(count), np.ones((count, 1, dim), np.float32))
        _nearest(stored, queries)

    compare(20_000)
    assert peak_bytes_each(exact_only, (10_000, 40_000)) < 300


def test_new_targets_are_held_once():
    """Parts that are joined at the end would take their memory twice."""
    dim = 256

    def fill(count: int) -> None:
        stored = StoredTargets(1, dim)
        for first in range(0, count, 32):
            stored.append(np.arange(first, first + 32), np.full((32, 1, dim), first, np.float32))
        assert stored.targets(np.array([0, 31, 32, count - 1]))[:, 0, 0].tolist() == [0, 0, 32, count - 32]

    assert peak_bytes_each(fill, (8_000, 32_000)) < 1.3 * 4 * dim
