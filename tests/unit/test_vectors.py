"""Vectors in FAISS, against the whole matrix of scores."""

import errno
import os

import numpy as np
import pytest

from spn4cir.search import vectors as module
from spn4cir.search.vectors import Vectors

DIM = 16


def unit(rng, *shape) -> np.ndarray:
    drawn = rng.standard_normal((*shape, DIM)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)


def clustered(rng, count: int, tokens: int) -> np.ndarray:
    """Vectors around 20 centres, as those of similar images are."""
    drawn = unit(rng, 20)[rng.integers(20, size=(count, 1))] + 0.4 * unit(rng, count, tokens)
    return drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)


def filled(targets: np.ndarray, ids: np.ndarray | None = None) -> Vectors:
    held = Vectors.empty(targets.shape[1], DIM)
    held.update(np.arange(len(targets)) if ids is None else ids, targets, np.empty(0, np.int64))
    return held


def remove(held: Vectors, *ids: int) -> None:
    held.update(np.empty(0, np.int64), np.empty((0, held.tokens, DIM), np.float32), np.array(ids))


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


@pytest.mark.parametrize("limit", [10_000, 200])
def test_an_updated_index_equals_a_new_one(monkeypatch, limit):
    """Images are removed and added, in an exact and an approximate index (all lists searched)."""
    monkeypatch.setattr(module, "EXACT_BELOW", limit)
    monkeypatch.setattr(module, "RECALL", 2)
    rng = np.random.default_rng(0)
    targets, queries = clustered(rng, 400, 2), unit(rng, 5)
    held = filled(targets[:300])
    held.update(np.arange(300, 400), targets[300:], np.arange(0, 300, 7))
    targets[:300:7] = 0
    assert held.approximate == (limit == 200)
    assert len(held) == 400 - len(range(0, 300, 7))
    assert top(held, queries, 9) == expected(targets, queries, 9)


def test_lists_come_and_go_with_the_number_of_vectors(monkeypatch, capsys):
    """The limit counts vectors, not images; the recall against an exact search is measured and printed."""
    monkeypatch.setattr(module, "EXACT_BELOW", 400)
    targets = clustered(np.random.default_rng(0), 200, 2)
    held = filled(targets[:199])
    assert (held.approximate, held.recall) == (False, None)
    assert not capsys.readouterr().err
    held.update(np.array([199]), targets[199:], np.empty(0, np.int64))
    assert held.approximate
    assert held.recall >= 0.95
    said = capsys.readouterr().err
    assert said.startswith("index: 400 vectors in 20 lists, ")
    assert f"finds {held.recall:.1%} of the results of an exact search (the 10 nearest of 100 queries)" in said
    remove(held, 17)
    assert (held.approximate, held.recall) == (False, None)
    targets[17] = 0
    queries = unit(np.random.default_rng(1), 4)
    assert top(held, queries, 5) == expected(targets, queries, 5)


def test_the_reported_recall_is_reached(monkeypatch):
    monkeypatch.setattr(module, "EXACT_BELOW", 3_000)
    rng = np.random.default_rng(0)
    targets = clustered(rng, 3_000, 1)
    held = filled(targets)
    queries = targets[rng.integers(3_000, size=(2, 200)), 0].sum(axis=0)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    pairs = zip(top(held, queries, 10), expected(targets, queries, 10), strict=True)
    met = np.mean([len(set(found) & set(wanted)) / 10 for found, wanted in pairs])
    assert held.recall >= 0.95
    assert met == pytest.approx(held.recall, abs=0.05)


def test_an_approximate_index_gives_the_whole_gallery_when_asked(monkeypatch):
    monkeypatch.setattr(module, "EXACT_BELOW", 100)
    rng = np.random.default_rng(0)
    targets, queries = clustered(rng, 150, 1), unit(rng, 2)
    held = filled(targets)
    assert held.approximate
    assert top(held, queries, 150) == expected(targets, queries, 150)


def test_lists_are_made_again_when_there_are_many_more_vectors(monkeypatch, capsys):
    monkeypatch.setattr(module, "EXACT_BELOW", 100)
    targets = clustered(np.random.default_rng(0), 1_000, 1)
    held = filled(targets[:100])
    held.update(np.arange(100, 400), targets[100:400], np.empty(0, np.int64))
    held.update(np.arange(400, 1_000), targets[400:], np.empty(0, np.int64))
    lists = [line.split()[4] for line in capsys.readouterr().err.splitlines() if line.startswith("index:")]
    assert lists == ["10", "31"]
    assert len(held) == 1_000


@pytest.mark.parametrize("limit", [10_000, 100])
def test_written_and_read_it_answers_the_same_and_can_be_changed(monkeypatch, tmp_path, limit):
    """Exact vectors are mapped from the file: it stays as it is when the index changes."""
    monkeypatch.setattr(module, "EXACT_BELOW", limit)
    rng = np.random.default_rng(0)
    targets, queries = clustered(rng, 150, 2), unit(rng, 5)
    held = filled(targets)
    held.write(tmp_path / "v.faiss")
    written = (tmp_path / "v.faiss").read_bytes()
    again = Vectors.read(tmp_path / "v.faiss", 2, held.recall)
    assert (len(again), again.approximate, again.recall) == (150, limit == 100, held.recall)
    assert top(again, queries, 9) == top(held, queries, 9)
    for each in (held, again):
        remove(each, 3, 4)
        each.update(np.array([150]), targets[3:4], np.empty(0, np.int64))
    assert top(again, queries, 9) == top(held, queries, 9)
    assert np.array_equal(again.targets(np.array([150, 5])), targets[[3, 5]])
    assert (tmp_path / "v.faiss").read_bytes() == written


@pytest.mark.parametrize(("place", "code"), [("/dev/full", errno.ENOSPC), ("nowhere/vectors.faiss", errno.ENOENT)])
def test_a_failed_write_is_the_systems_error(tmp_path, place, code):
    """A full disk is reported in one line."""
    with pytest.raises(OSError, match=os.strerror(code)) as raised:
        filled(unit(np.random.default_rng(0), 500, 1)).write(tmp_path / place)
    assert raised.value.errno == code
