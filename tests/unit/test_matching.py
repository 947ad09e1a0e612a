from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from spn4cir.errors import InputError
from spn4cir.positives import matching
from spn4cir.positives.matching import find_partners, match
from spn4cir.positives.unicom import Unicom, UnicomSizes, encode_images
from spn4cir.types import Gallery, UniqueImages

CPU = torch.device("cpu")


def on_a_circle(degrees: list[float]) -> Tensor:
    angles = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    return torch.stack([angles.cos(), angles.sin()], dim=1).float()


def random_features(images: int, dim: int = 16, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return nn.functional.normalize(torch.randn(images, dim, generator=generator))


def test_closed_form_on_a_circle() -> None:
    """Images at 0, 10, 30 and 70 degrees: similarity falls with the angle, so the order is known."""
    order = [[1, 2, 3], [0, 2, 3], [1, 0, 3], [2, 1, 0]]
    features = on_a_circle([0, 10, 30, 70])
    for rank in (1, 2, 3):
        found = find_partners(features, (rank, rank + 1), 1, seed=0)
        assert found.target.tolist() == [row[rank - 1] for row in order]
        assert found.rank.tolist() == [rank] * 4
    assert find_partners(features, (1, 4), 3, seed=0).target.reshape(4, 3).tolist() == order
    np.testing.assert_allclose(found.similarity[0], np.cos(np.deg2rad(70)), rtol=1e-6)


def test_an_image_is_never_its_own_partner() -> None:
    """Rank 0 is the image itself, also where features are not of unit norm and others come out more similar."""
    features = random_features(50) * torch.linspace(0.1, 3, 50)[:, None]
    for window in (None, (1, 5), (1, 50)):
        found = find_partners(features, window, 3, seed=0)
        assert (found.reference != found.target).all()


@pytest.mark.parametrize("near", [2048, 0])
def test_equal_similarities_rank_by_row(monkeypatch: pytest.MonkeyPatch, near: int) -> None:
    """Where all images are equal, rank r is the r-th other row; a FAISS list that cuts a tie is not trusted."""
    monkeypatch.setattr(matching, "_NEAR", near)
    features = torch.zeros(30, 4)
    features[:, 0] = 1
    found = find_partners(features, (1, 6), 5, seed=0)
    expected = [[row for row in range(30) if row != reference][:5] for reference in range(30)]
    assert found.target.reshape(30, 5).tolist() == expected


def test_partners_are_distinct_and_in_the_window() -> None:
    found = find_partners(random_features(60), (10, 30), 7, seed=3)
    ranks = found.rank.reshape(60, 7)
    assert ((ranks >= 10) & (ranks < 30)).all()
    assert all(len(set(row)) == 7 for row in ranks.tolist())
    assert found.reference.tolist() == np.repeat(np.arange(60), 7).tolist()


def test_seed_decides() -> None:
    features = random_features(200)
    first, again, other = (find_partners(features, (5, 150), 1, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.target, again.target)
    assert (first.target != other.target).mean() > 0.9


@pytest.mark.parametrize("partners", [1, 3])
def test_ranks_are_drawn_uniformly(partners: int) -> None:
    """Over 6,000 draws each of ten ranks comes up a tenth of the time, within five standard deviations."""
    found = find_partners(random_features(6000 // partners, dim=4), (20, 30), partners, seed=0)
    counts = Counter(found.rank.tolist())
    assert sorted(counts) == list(range(20, 30))
    deviation = np.sqrt(6000 * 0.1 * 0.9)
    assert all(abs(count - 600) < 5 * deviation for count in counts.values())


def test_no_window_draws_any_other_image_uniformly() -> None:
    """Of four images, each of the three others is drawn for a third of 900 identical rows, and its rank is correct."""
    features = on_a_circle([0, 10, 30, 70])
    drawn = Counter(int(find_partners(features, None, 1, seed).target[0]) for seed in range(900))
    assert sorted(drawn) == [1, 2, 3]
    assert all(abs(count - 300) < 5 * np.sqrt(200) for count in drawn.values())
    found = find_partners(features, None, 3, seed=0)
    assert found.rank.tolist() == [1, 2, 3] * 4
    assert found.window is None


def test_window_that_begins_beyond_the_images_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"window \[10, 20\] begins beyond the 10 images.*as in \[0.4, 0.8\], to lower ranks"
    ):
        find_partners(random_features(10), (10, 20), 1, seed=0)


def test_window_that_ends_beyond_the_images_is_cut_with_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    found = find_partners(random_features(10), (8, 20), 2, seed=0)
    assert "window [8, 20] ends beyond the 10 images; cut to [8, 10]" in capsys.readouterr().err
    assert found.rank.tolist() == [8, 9] * 10
    assert found.window == (8, 20)


@pytest.mark.parametrize(("images", "window"), [(10, (7, 9)), (3, None), (9, (7, 20)), (1, None)])
def test_window_with_fewer_ranks_than_partners_is_refused(images: int, window: tuple[int, int] | None) -> None:
    with pytest.raises(InputError, match=r"contains \d ranks, but partners is 3"):
        find_partners(random_features(images), window, 3, seed=0)


def test_shares_are_ranks_of_the_images(capsys: pytest.CaptureFixture[str]) -> None:
    """Of 60 images [0.4, 0.8] are the ranks 24 to 47: the draw, and what is kept, are those of the ranks."""
    features = random_features(60)
    shares, ranks = (find_partners(features, window, 7, seed=3) for window in ((0.4, 0.8), (24, 48)))
    np.testing.assert_array_equal(shares.rank, ranks.rank)
    np.testing.assert_array_equal(shares.target, ranks.target)
    assert shares.window == (24, 48)
    assert capsys.readouterr().err.count("cut") == 0


def test_shares_that_hold_too_few_ranks_are_refused_as_written() -> None:
    with pytest.raises(InputError, match=r"window \[0.99, 1.0\] of 10 images contains 0 ranks, but partners is 1"):
        find_partners(random_features(10), (0.99, 1.0), 1, seed=0)


def test_features_that_are_not_finite_are_refused() -> None:
    features = random_features(10)
    features[3, 2] = torch.nan
    with pytest.raises(InputError, match="not finite"):
        find_partners(features, (1, 5), 1, seed=0)


class CountingUnicom(Unicom):
    """Counts the encoded images."""

    encoded = 0

    def forward(self, images: Tensor) -> Tensor:
        self.encoded += len(images)
        return super().forward(images)


@pytest.fixture
def model() -> CountingUnicom:
    torch.manual_seed(0)
    return CountingUnicom(UnicomSizes(16, 8, 64, 1, 1, 64, 16, 8))


@pytest.fixture
def unique(tmp_path: Path) -> UniqueImages:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.png" for i in range(7)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (20, 16, 3), dtype=np.uint8)).save(path)
    names = tuple(path.stem for path in paths)
    return UniqueImages(Gallery(names, tuple(paths)), {name: row for row, name in enumerate(names)})


@pytest.mark.parametrize("workers", [0, 2])
def test_features_have_unit_norm_and_the_order_of_the_paths(
    model: CountingUnicom, unique: UniqueImages, workers: int
) -> None:
    """Batches and workers change nothing: each row is the network's output for its own image."""
    features = torch.cat(list(encode_images(model, unique.gallery.paths, 3, workers, CPU)))
    alone = [model(model.preprocess(Image.open(path))[None])[0] for path in unique.gallery.paths]
    torch.testing.assert_close(features, nn.functional.normalize(torch.stack(alone)).detach())
    torch.testing.assert_close(features.norm(dim=1), torch.ones(7))


def test_windows_are_computed_once_and_images_encoded_once(
    model: CountingUnicom, unique: UniqueImages, tmp_path: Path
) -> None:
    """Of seven images, the shares 1/7 and 3/7 are the ranks 1 and 3."""
    found, samples = match(unique, model, [(1, 3), None, (1, 3), (1 / 7, 3 / 7)], 1, 0, 4, 0, CPU, 3, tmp_path)
    assert [partners.window for partners in found] == [(1, 3), None]
    assert len(samples.samples) == 3
    assert model.encoded == 7


def test_a_further_window_encodes_nothing(model: CountingUnicom, unique: UniqueImages, tmp_path: Path) -> None:
    """Another family in `run.models`; its partners are those of a run that computed all windows at once."""
    (first,), _ = match(unique, model, [(1, 3)], 1, 0, 4, 0, CPU, 3, tmp_path)
    again, samples = match(unique, model, [(1, 3), (0.5, 1.0)], 1, 0, 4, 0, CPU, 3, tmp_path)
    assert model.encoded == 7
    (tmp_path / "new").mkdir()
    whole, others = match(unique, model, [(1, 3), (0.5, 1.0)], 1, 0, 4, 0, CPU, 3, tmp_path / "new")
    assert samples == others
    for one, other in ((first, again[0]), *zip(again, whole, strict=True)):
        assert one.window == other.window
        np.testing.assert_array_equal(one.target, other.target)
        np.testing.assert_array_equal(one.similarity, other.similarity)


def test_an_interrupted_encoding_is_continued_after_its_batches(
    model: CountingUnicom, unique: UniqueImages, tmp_path: Path
) -> None:
    """Of batches of 2, 2, 2 and 1, the third contains a broken image at first; the first two are not encoded again."""
    path = unique.gallery.paths[5]
    whole = path.read_bytes()
    path.write_bytes(whole[:50])
    with pytest.raises(InputError, match=r"5\.png: cannot be decoded"):
        match(unique, model, [None], 1, 0, 2, 0, CPU, 3, tmp_path)
    path.write_bytes(whole)
    match(unique, model, [None], 1, 0, 2, 0, CPU, 3, tmp_path)
    assert model.encoded == 7
    (tmp_path / "new").mkdir()
    match(unique, model, [None], 1, 0, 2, 0, CPU, 3, tmp_path / "new")
    assert (tmp_path / "features.npy").read_bytes() == (tmp_path / "new" / "features.npy").read_bytes()


def test_bad_window_is_refused_before_any_image_is_encoded(
    model: CountingUnicom, unique: UniqueImages, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"window \[10, 20\] begins beyond the 7 images"):
        match(unique, model, [(1, 3), (10, 20)], 1, 0, 4, 0, CPU, 3, tmp_path)
    assert model.encoded == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_truncated_image_is_one_line_that_names_it(
    model: CountingUnicom, unique: UniqueImages, workers: int, tmp_path: Path
) -> None:
    path = unique.gallery.paths[5]
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match=r"^.+5\.png: cannot be decoded") as raised:
        match(unique, model, [None], 1, 0, 2, workers, CPU, 3, tmp_path)
    assert "\n" not in str(raised.value)


def test_a_batch_that_the_gpu_cannot_hold_names_the_setting(
    model: CountingUnicom, unique: UniqueImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(images: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.\nGPU 0 has")

    monkeypatch.setattr(model, "forward", full)
    with pytest.raises(InputError, match=r"^match: encode: a batch does not fit .* lower batch_size \(3\)"):
        list(encode_images(model, unique.gallery.paths, 3, 0, torch.device("cpu")))
