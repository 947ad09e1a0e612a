"""Matching: finds, for each image, partners whose similarity rank is in a window."""

import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import faiss
import numpy as np
import torch
from jaxtyping import Float32, Int64
from numpy import ndarray
from torch import Tensor

from spn4cir.errors import InputError
from spn4cir.files import claim_space, disk_errors
from spn4cir.images.workers import Workers
from spn4cir.json_files import read_json, write_json
from spn4cir.positives.partners import Partners, Ranks, Window, is_shares, ranks_of
from spn4cir.positives.rank_samples import Neighbour, RankSample, RankSamples, sampled_ranks
from spn4cir.positives.unicom import Unicom, encode_images
from spn4cir.progress import progress
from spn4cir.types import UniqueImages

# FAISS keeps only the best entries of each row, which is fast for few entries. Windows that end at a larger rank are
# selected from whole rows.
_NEAR = 2048
_BLOCK_BYTES = 1 << 28


class Matched(NamedTuple):
    """The partners in each distinct window, and samples of the images at similarity ranks."""

    partners: list[Partners]
    samples: RankSamples


def match(
    unique: UniqueImages,
    model: Unicom,
    windows: Iterable[Window | None],
    partners: int,
    seed: int,
    batch_size: int,
    workers: Workers,
    device: torch.device,
    sampled: int,
    work: Path,
) -> Matched:
    """Finds partners of every unique image in each distinct window, and samples ranks; encodes each image once.

    The features are stored in `work`, so that a further window needs no encoding.

    Args:
        unique: the images.
        model: the encoder.
        windows: windows of the families; windows of equal ranks are computed once.
        partners: number of partners to draw for each image.
        seed: determines the draw.
        batch_size: images per batch.
        workers: number of processes that decode images, where 0 decodes in the calling process; or a cluster.
        device: device on which features (without a cluster) and similarities are computed.
        sampled: number of images in the samples of ranks.
        work: a folder for this encoder, these images, this batch size and this device.

    Raises:
        InputError: a window does not fit the number of images (found before any is encoded), or an image cannot be
            decoded.
    """
    images = len(unique.gallery)
    distinct = list({ranks_of(window, images): window for window in windows}.values())
    for window in distinct:
        _cut(window, images, partners)
    features = _kept_features(model, unique.gallery.paths, batch_size, workers, device, work).to(device)
    found = [find_partners(features, window, partners, seed) for window in distinct]
    return Matched(found, sample_ranks(features, unique.gallery.names, distinct, sampled))


def _kept_features(
    model: Unicom, paths: Sequence[Path], batch_size: int, workers: Workers, device: torch.device, work: Path
) -> Float32[Tensor, "images dim"]:
    """Returns the features of every image, read from `work` or encoded and stored there; at most a batch is lost."""
    kept, unfinished, noted = (work / name for name in ("features.npy", "unfinished.npy", "done.json"))
    begun = noted.exists() and (kept.exists() or unfinished.exists())
    done = read_json(noted)["rows"] if begun else 0
    if done:
        print(f"match: resumed after {done:,} of {len(paths):,} images", flush=True)
    if not kept.exists():
        with disk_errors(work):
            if not done:
                _make_file(unfinished, (len(paths), model.sizes.dim))
            rows = np.load(unfinished, mmap_mode="r+")
            for batch in encode_images(model, paths, batch_size, workers, device, done):
                rows[done : done + len(batch)] = batch.numpy()
                rows.flush()
                done += len(batch)
                write_json(noted, {"rows": done})
            unfinished.rename(kept)
    return torch.from_numpy(np.load(kept))


def _make_file(path: Path, shape: tuple[int, int]) -> None:
    """Creates a file of float32 rows at full size, without holes."""
    np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    with path.open("r+b") as stream:
        claim_space(stream.fileno(), path.stat().st_size)


def sample_ranks(
    features: Float32[Tensor, "images dim"], names: Sequence[str], windows: Sequence[Window | None], sampled: int
) -> RankSamples:
    """Samples the neighbours at the shown ranks of each window, for `sampled` evenly spaced images."""
    images = len(features)
    rows = np.unique(np.arange(sampled) * images // sampled)
    wanted = sampled_ranks(windows, images)
    columns, values = _select_far(features, rows, np.tile(np.array(wanted, dtype=np.int64), (len(rows), 1)))
    samples = tuple(
        RankSample(
            names[row],
            tuple(
                Neighbour(rank, names[column], round(float(value), 4))
                for rank, column, value in zip(wanted, columns[place], values[place], strict=True)
            ),
        )
        for place, row in enumerate(rows)
    )
    return RankSamples(images, samples)


def find_partners(features: Float32[Tensor, "images dim"], window: Window | None, partners: int, seed: int) -> Partners:
    """Draws partners uniformly, without repetition, from the images whose rank is in the window.

    Rank 0 is the image itself. The rank of another image is one more than the number of other images that are more
    similar; of equally similar images, the lower row ranks first.

    Args:
        features: features with unit norm, on the device that computes similarities.
        window: [lo, hi) of ranks or of shares of the images; None for any other image.
        partners: number of partners to draw for each image.
        seed: determines the draw; ranks are drawn, so that the draw depends only on the number of images.

    A window that ends beyond the images is cut, with a line on stderr.

    Raises InputError if a feature is not finite, or if the window begins beyond the images or contains fewer than
    `partners` ranks.
    """
    images = len(features)
    lo, hi = _cut(window, images, partners)
    ranks_asked = ranks_of(window, images)
    if ranks_asked and hi < ranks_asked[1]:
        print(
            f"match: window {list(ranks_asked)} ends beyond the {images} images; cut to [{lo}, {hi}]", file=sys.stderr
        )
    if not torch.isfinite(features).all():
        raise InputError("match: the encoder's features contain values that are not finite; download its weights again")
    ranks = _draw_ranks(images, lo, hi, partners, seed)
    select = partial(_select_far, features)
    if hi < min(_NEAR, images):
        select = partial(_select_near, features, _faiss_index(features), hi + 1)
    height = max(1, _BLOCK_BYTES // (4 * images))
    blocks = np.split(np.arange(images), range(height, images, height))
    bar = progress(blocks, len(blocks), f"match: ranks {lo} to {hi - 1}", "blocks")
    found = [select(rows, ranks[rows]) for rows in bar]
    return Partners(
        window=ranks_asked,
        reference=np.repeat(np.arange(images), partners),
        target=np.concatenate([columns for columns, _ in found]).ravel(),
        rank=ranks.ravel(),
        similarity=np.concatenate([values for _, values in found]).ravel(),
    )


def _cut(window: Window | None, images: int, partners: int) -> Ranks:
    """Returns the window's ranks, cut to the images. Raises InputError if it contains fewer than `partners` ranks."""
    lo, hi = ranks_of(window, images) or (1, images)
    if window and not is_shares(window) and lo >= images:
        raise InputError(
            f"match: window {list(window)} begins beyond the {images} images (ranks 1 to {images - 1}); "
            "set match.<dataset>.window.<family> to shares of the images, as in [0.4, 0.8], to lower ranks, or to null"
        )
    hi = min(hi, images)
    if hi - lo < partners:
        asked = list(window) if window else "null"
        raise InputError(
            f"match: window {asked} of {images} images contains {max(0, hi - lo)} ranks, but partners is {partners}; "
            "widen match.<dataset>.window.<family>, or lower match.<dataset>.partners"
        )
    return lo, hi


def _draw_ranks(images: int, lo: int, hi: int, partners: int, seed: int) -> Int64[ndarray, "images partners"]:
    """Draws distinct ranks of [lo, hi) for each image, ascending.

    Floyd's sampling: the step for `top` adds a random number of 0 .. top or, if it is already chosen, `top` itself.
    Source: Bentley and Floyd, "A sample of brilliance", CACM 30(9), 1987.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.empty(images, 0, dtype=torch.int64)
    for top in range(hi - lo - partners, hi - lo):
        drawn = torch.randint(0, top + 1, (images, 1), generator=generator)
        taken = (chosen == drawn).any(dim=1, keepdim=True)
        chosen = torch.cat([chosen, torch.where(taken, top, drawn)], dim=1)
    ranks: Int64[ndarray, "images partners"] = (lo + chosen.sort(dim=1).values).numpy()
    return ranks


Selected = tuple[Int64[ndarray, "rows partners"], Float32[ndarray, "rows partners"]]


def _faiss_index(features: Float32[Tensor, "images dim"]) -> faiss.Index:
    """Returns an exact index, on the GPU of the features if faiss-gpu is installed instead of faiss-cpu."""
    index: faiss.Index = faiss.IndexFlatIP(features.shape[1])
    if features.is_cuda and hasattr(faiss, "StandardGpuResources"):
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), features.device.index or 0, index)
    index.add(features.cpu().contiguous().numpy())
    return index


def _select_far(
    features: Float32[Tensor, "images dim"], rows: Int64[ndarray, " rows"], ranks: Int64[ndarray, "rows partners"]
) -> Selected:
    """Selects columns and similarities at `ranks` from whole rows of similarities."""
    values = (features[torch.from_numpy(rows)] @ features.T).cpu().numpy()
    values[np.arange(len(rows)), rows] = np.inf
    return _pick(values, np.broadcast_to(np.arange(len(features)), values.shape), ranks)


def _select_near(
    features: Float32[Tensor, "images dim"],
    index: faiss.Index,
    count: int,
    rows: Int64[ndarray, " rows"],
    ranks: Int64[ndarray, "rows partners"],
) -> Selected:
    """Selects columns and similarities at `ranks` from the `count` most similar images of each row.

    Every rank is below `count` - 1. If a selected similarity equals the last of the list, images of equal similarity
    may be missing from the list; such rows are selected from whole rows.
    """
    values, columns = index.search(features[torch.from_numpy(rows)].cpu().numpy(), count)
    last = values[:, -1:].copy()
    own = columns == rows[:, None]
    own[~own.any(axis=1), -1] = True
    values[own] = np.inf
    columns[:] = np.where(own, rows[:, None], columns)
    targets, similarities = _pick(values, columns, ranks)
    if (unsure := (similarities == last).any(axis=1)).any():
        targets[unsure], similarities[unsure] = _select_far(features, rows[unsure], ranks[unsure])
    return targets, similarities


def _pick(
    values: Float32[ndarray, "rows images"],
    columns: Int64[ndarray, "rows images"],
    ranks: Int64[ndarray, "rows partners"],
) -> Selected:
    """Selects the columns and values at ranks by descending value, in threads; the lower column ranks first in ties."""
    targets, similarities = np.empty_like(ranks), np.empty(ranks.shape, dtype=np.float32)

    def pick_rows(part: Int64[ndarray, " part"]) -> None:
        for row in part:
            places = values.shape[1] - 1 - ranks[row]
            similarities[row] = np.partition(values[row], places)[places]
            for partner, value in enumerate(similarities[row]):
                ties = np.sort(columns[row][values[row] == value])
                targets[row, partner] = ties[ranks[row, partner] - np.count_nonzero(values[row] > value)]

    parts = np.array_split(np.arange(len(values)), torch.get_num_threads())
    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(pick_rows, parts))
    return targets, similarities
