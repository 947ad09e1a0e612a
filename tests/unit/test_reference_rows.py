"""Reference features of a step: only the needed rows, read ahead, equal for any number of processes."""

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spn4cir.training.reference_rows
from spn4cir.composers.protocol import ImageFeatures
from spn4cir.config.training import BankSettings
from spn4cir.errors import InputError
from spn4cir.images.preprocess import BatchLoader
from spn4cir.training.bank import Bank, build_bank, open_bank
from spn4cir.training.batches import BankSource, Batch
from spn4cir.training.epoch_plan import TripletRows, triplet_rows
from spn4cir.training.reference_rows import RecomputedReferences, StoredReferences
from spn4cir.types import Gallery, Triplet, UniqueImages
from tests.conftest import CPU
from tests.helpers.banks import stored_bank
from tests.helpers.layouts import draw
from tests.helpers.stub import StubComposer, stage2

IMAGES = 7
NEEDED = [torch.tensor(rows) for rows in ([0, 3], [6], [1, 2, 3, 4, 5], [0, 6], [2, 3])]


@pytest.fixture
def reference() -> Tensor:
    """Rows of 3 tokens."""
    return torch.randn(IMAGES, 3, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def read_by_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treats rows as large."""
    monkeypatch.setattr(spn4cir.training.reference_rows, "_SMALL_BATCH", 0)


@pytest.fixture
def unique(tmp_path: Path) -> UniqueImages:
    names = tuple(f"i{number}" for number in range(IMAGES))
    paths = tuple(draw(tmp_path / "images" / f"{name}.png", number) for number, name in enumerate(names))
    return UniqueImages(Gallery(names, paths), {name: row for row, name in enumerate(names)})


@pytest.fixture
def banks(unique: UniqueImages, tmp_path: Path) -> Callable[[str], Bank]:
    """A bank of the images, its references stored or recomputed."""

    def bank(how: str) -> Bank:
        composer, work = StubComposer(), tmp_path / f"work {how}"
        work.mkdir()
        settings = BankSettings(dtype="float32", batch_size=4, reference=how, images="annotated")
        build_bank(composer, unique, settings, tmp_path / how, work, 0, CPU)
        return open_bank(tmp_path / how, composer, unique, settings)

    return bank


def rows(count: int = 20) -> TripletRows:
    """References repeat within a batch."""
    triplets = [Triplet(f"i{i % 3}", (f"text {i}", f"other {i}", "x"), f"i{(i + 1) % IMAGES}") for i in range(count)]
    return triplet_rows(triplets, {f"i{i}": i for i in range(IMAGES)}, "x")


def values(batch: Batch) -> list[Any]:
    return [batch.texts, *(getattr(batch, name).tolist() for name in ("reference", "target", "inputs", "input_row"))]


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.usefixtures("read_by_processes")
def test_rows_come_in_order_in_the_dtype_of_the_file(reference: Tensor, workers: int, dtype: str) -> None:
    """Rows move to the device in float16 and become float32 there."""
    stored = stored_bank(reference, dtype).reference
    read = list(stored.read(NEEDED, workers, CPU))
    expected = reference.to(getattr(torch, dtype))
    assert len(read) == len(NEEDED)
    for part, needed in zip(read, NEEDED, strict=True):
        assert part.dtype is expected.dtype
        assert torch.equal(part, expected[needed])
        assert torch.equal(stored.features(StubComposer(), part), expected[needed].float())


def test_a_process_is_handed_the_name_of_the_file_not_its_rows(tmp_path: Path) -> None:
    """Under spawn a memory map would be sent as the whole array."""
    stored = stored_bank(torch.randn(500, 12)).reference
    assert isinstance(stored, StoredReferences)
    first = stored[[4]]
    sent = pickle.dumps(stored)
    assert len(sent) < 500
    assert torch.equal(pickle.loads(sent)[[4]], first)


@pytest.mark.parametrize(
    ("row_bytes", "workers", "started"),
    [
        (2560, 8, 0),
        (12 * 512 * 2, 8, 0),
        (577 * 768 * 2, 0, 0),
        (577 * 768 * 2, 8, 8),
        (100 << 20, 8, 4),
        (3 << 30, 8, 1),
    ],
)
def test_processes_are_as_many_as_the_rows_are_worth(
    monkeypatch: pytest.MonkeyPatch, row_bytes: int, workers: int, started: int
) -> None:
    """Batches have at most five rows; CLIP's need no process, BLIP's use all, and at most 2 GB are read ahead."""
    asked: list[dict[str, Any]] = []

    def loader(*args: Any, **kwargs: Any) -> Iterator[Tensor]:
        asked.append(kwargs)
        return iter(())

    monkeypatch.setattr(spn4cir.training.reference_rows, "BatchLoader", loader)
    monkeypatch.setattr(StoredReferences, "row_bytes", row_bytes)
    assert list(stored_bank(torch.zeros(7, 1)).reference.read(NEEDED, workers, CPU)) == []
    assert [each["num_workers"] for each in asked] == [started]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_rows_are_pinned_for_a_gpu(monkeypatch: pytest.MonkeyPatch, unique: UniqueImages, device: str) -> None:
    asked: list[bool] = []
    real = BatchLoader

    def loader(*args: Any, pin_memory: bool, **kwargs: Any) -> BatchLoader[Any]:
        asked.append(pin_memory)
        return real(*args, **kwargs)

    monkeypatch.setattr(spn4cir.training.reference_rows, "BatchLoader", loader)
    files = spn4cir.training.reference_rows.ImageFiles(unique.gallery.paths, StubComposer().preprocess)
    for references in (stored_bank(torch.zeros(7, 1)).reference, RecomputedReferences(files)):
        assert len(list(references.read(NEEDED, 0, torch.device(device)))) == len(NEEDED)
    assert asked == [device == "cuda"] * 2


@pytest.mark.parametrize("how", ["stored", "recomputed"])
@pytest.mark.usefixtures("read_by_processes")
def test_batches_do_not_depend_on_processes_or_on_earlier_epochs(banks: Callable[[str], Bank], how: str) -> None:
    """A resumed run begins with a later epoch; the draws of dropout from torch's generator do not change."""
    bank, settings = banks(how), stage2(batch_size=6)
    one = BankSource(rows(), bank, settings, 1, CPU)
    torch.manual_seed(5)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    first = [[values(batch) for batch in one.batches(epoch)] for epoch in (1, 2)]
    assert torch.equal(torch.rand(3), drawn)
    assert len(first[1]) == 3
    assert first[0] != first[1]
    for workers in (0, 2):
        resumed = BankSource(rows(), bank, settings, 1, CPU, workers)
        assert [values(batch) for batch in resumed.batches(2)] == first[1]


def test_a_step_reads_each_image_once(banks: Callable[[str], Bank]) -> None:
    """Six triplets with three references need three rows, or three encodes if they are recomputed."""
    for how, encodes in (("stored", 0), ("recomputed", 3)):
        source = BankSource(rows(), banks(how), stage2(batch_size=6), 1, CPU)
        for batch in source.batches(1):
            assert batch.input_row.tolist() == sorted(set(batch.reference.tolist())) == [0, 1, 2]
            assert len(batch.inputs) == 3
            composer = StubComposer()
            source.loss(composer, batch)
            assert composer.encoded == encodes


@pytest.mark.parametrize("changes", [{}, {"negatives": "batch"}, {"bank_samples": 3}], ids=str)
def test_recomputed_references_train_as_stored_ones(banks: Callable[[str], Bank], changes: dict[str, Any]) -> None:
    """Losses and gradients are equal, and gradients reach only the text side."""
    found = []
    for how in ("stored", "recomputed"):
        composer = StubComposer({f"text {i}": torch.full((12,), 0.1 * i) for i in range(20)})
        source = BankSource(rows(), banks(how), stage2(batch_size=6, **changes), 1, CPU)
        losses = torch.stack([source.loss(composer, batch) for batch in source.batches(1)])
        losses.sum().backward()
        assert composer.image_side.weight.grad is None
        found.append((losses.detach(), composer.text_side.weight.grad))
    assert float(found[0][1].abs().max()) > 0
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-6)


class WithDropout(StubComposer):
    """Drops half of an image feature in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.normalisation = nn.BatchNorm1d(12).eval()

    def encode_image(self, images: Tensor) -> ImageFeatures:
        features = super().encode_image(images)
        return features._replace(reference=self.dropout(features.reference))


def test_recomputed_references_are_without_dropout(banks: Callable[[str], Bank]) -> None:
    """Dropout is off while features are computed, as for a bank; afterwards every module has its former mode."""
    composer, references = WithDropout(), banks("recomputed").reference
    (read,) = references.read([torch.arange(IMAGES)], 0, CPU)
    expected = references.features(composer.eval(), read)
    composer.train()
    composer.normalisation.eval()
    assert torch.equal(references.features(composer, read), expected)
    assert (composer.training, composer.dropout.training, composer.normalisation.training) == (True, True, False)
    assert not references.features(composer, read).requires_grad


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_broke_since_the_build_is_one_line(
    banks: Callable[[str], Bank], unique: UniqueImages, workers: int
) -> None:
    source = BankSource(rows(), banks("recomputed"), stage2(batch_size=6), 1, CPU, workers)
    unique.gallery.paths[1].write_bytes(b"no image")
    with pytest.raises(InputError, match=r"i1\.png: cannot be decoded") as raised:
        list(source.batches(1))
    assert "\n" not in str(raised.value)


def test_a_bank_that_went_away_is_named_by_a_process_that_opens_it() -> None:
    """A process that opened the file before continues to read it."""
    stored = stored_bank(torch.ones(7, 1)).reference
    assert isinstance(stored, StoredReferences)
    sent = pickle.dumps(stored)
    stored.path.unlink()
    assert torch.equal(stored[[0]], torch.ones(1, 1))
    with pytest.raises(InputError, match=r"\.npy: cannot be read .*; build the bank again$"):
        pickle.loads(sent)[[0]]
