"""Indexes of millions of drawn vectors: time, memory and disk of the build, and time of a query.

Run `python -m tests.bench.large_galleries KIND:IMAGES ...`, as in ivf-pq:1000000; it prints the rows of the table in
docs/large-galleries.md. Build and search run in processes of their own, whose peak memory is measured. Times are of the
processor, over all cores, so that other work on the machine changes them little.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
from numpy import ndarray

from spn4cir.search.vectors import KindSettings, Vectors

DIM, LATENT, CENTRES, CHUNK = 256, 64, 1_000, 65_536
NONE = np.empty(0, np.int64)


def drawn(count: int, seed: int) -> ndarray:
    """Unit vectors around 1,000 centres in a space of 64 dimensions, turned into 256 dimensions."""
    fixed, rng = np.random.default_rng(0), np.random.default_rng(seed)
    centres = fixed.standard_normal((CENTRES, LATENT), dtype=np.float32)
    turn = np.linalg.qr(fixed.standard_normal((DIM, LATENT)))[0].T.astype(np.float32)
    latent = centres[rng.integers(CENTRES, size=count)]
    latent += 0.7 * rng.standard_normal((count, LATENT), dtype=np.float32)
    vectors = latent @ turn
    faiss.normalize_L2(vectors)
    return vectors


def build(kind: str, images: int, folder: Path) -> dict[str, object]:
    """Draws the vectors, builds the index and writes it; the time does not include the drawing."""
    settings = KindSettings(kind)
    stored = settings.store(images, 1, DIM)
    drawing, started = 0.0, time.process_time()
    for start in range(0, images, CHUNK):
        before = time.process_time()
        ids = np.arange(start, min(start + CHUNK, images))
        vectors = drawn(len(ids), 1 + start)
        drawing += time.process_time() - before
        stored.append(ids, vectors[:, None])
    held = Vectors.empty(1, DIM, settings)
    held.update(np.arange(images), stored, NONE)
    held.write(folder)
    found = {"kind": held.kind, "candidates": held.candidates, "recall": held.recall}
    return found | {"seconds": time.process_time() - started - drawing}


def search(found: dict[str, object], folder: Path) -> dict[str, object]:
    """Milliseconds of a query, one at a time, after a first pass over other queries."""
    wanted = found["candidates"], found["recall"]
    held = Vectors.read(folder, found["kind"], 1, KindSettings(found["kind"]), wanted)
    queries = drawn(600, 1)[:300] + drawn(600, 1 + CHUNK)[300:]
    faiss.normalize_L2(queries)
    faiss.omp_set_num_threads(1)
    times = []
    for query in queries:
        before = time.process_time()
        held.best(query[None], [10], [lambda targets, query=query: targets[:, 0] @ query])
        times.append(time.process_time() - before)
    return {"milliseconds": 1e3 * float(np.median(times[100:])), "p95": 1e3 * float(np.quantile(times[100:], 0.95))}


def _measured(work: Callable[[], dict[str, object]]) -> None:
    result = work() | {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, "own": _own_memory()}
    print(json.dumps(result))


def _own_memory() -> float:
    """Returns the memory of this process in GB, without the pages of mapped files, which the system can drop."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("RssAnon:"))) / 1e6


def _in_process(*arguments: object) -> dict[str, object]:
    command = [sys.executable, "-m", __spec__.name, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def row(kind: str, images: int) -> str:
    """Builds and searches one index; returns its row."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "index")
        folder.mkdir()
        built = _in_process("build", kind, images, folder)
        used = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9
        searched = _in_process("search", json.dumps(built), folder)
    cells = (f"{images:,}", kind, f"{built['seconds']:.0f} s", f"{built['peak']:.1f} GB", f"{used:.1f} GB")
    more = f"{built['candidates']}", f"{built['recall']:.3f}", f"{searched['milliseconds']:.2f} ms"
    last = f"{searched['p95']:.2f} ms", f"{1000 * searched['own']:.0f} MB", f"{searched['peak']:.1f} GB"
    return f"| {' | '.join((*cells, *more, *last))} |"


if __name__ == "__main__":
    if sys.argv[1] == "build":
        _measured(lambda: build(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])))
    elif sys.argv[1] == "search":
        _measured(lambda: search(json.loads(sys.argv[2]), Path(sys.argv[3])))
    else:
        for wanted in sys.argv[1:]:
            name, _, count = wanted.partition(":")
            print(row(name, int(count)), flush=True)
