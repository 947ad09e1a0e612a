"""The training loop of both stages: which weights change, which are kept, and that a kill changes nothing."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import spn4cir.training.setup
import spn4cir.training.trainer
from spn4cir.checkpoints.published import load_composer
from spn4cir.config.params import Validate
from spn4cir.config.training import BankSettings
from spn4cir.datasets import open_layout
from spn4cir.errors import InputError
from spn4cir.images.preprocess import ImageFiles
from spn4cir.parallel import Group
from spn4cir.positives.dedup import deduplicate
from spn4cir.training.bank import Bank, build_bank, open_bank
from spn4cir.training.batches import BankSource, Batch, ImageSource
from spn4cir.training.epoch_plan import TripletRows, triplet_rows
from spn4cir.training.setup import TrainingSetup
from spn4cir.training.stage1 import train_stage1
from spn4cir.training.stage2 import train_stage2
from spn4cir.training.trainer import Trainer, Watch, unwatched
from spn4cir.types import Triplet, UniqueImages
from stages.inputs import positives
from tests.conftest import CPU
from tests.helpers.banks import stored_bank
from tests.helpers.checkpoints import write_checkpoint
from tests.helpers.layouts import write, write_cirr, write_fashioniq
from tests.helpers.stub import StubComposer, optimisation, stage2

SCORES = {"score": 1.0}


class Killed(Exception):
    """Simulates a SIGKILL: nothing in the package catches it."""


def features(images: int = 9, seed: int = 0) -> Tensor:
    return torch.randn(images, 12, generator=torch.Generator().manual_seed(seed))


def rows(count: int = 10, images: int = 9) -> TripletRows:
    """Triplet i has reference i, target i + 1 and the text `text i`."""
    triplets = [Triplet(f"i{i % images}", (f"text {i}",), f"i{(i + 1) % images}") for i in range(count)]
    return triplet_rows(triplets, {f"i{i}": i for i in range(images)}, "x")


def bank(images: int = 9) -> Bank:
    return stored_bank(features(images))


def batches(count: int, batch_size: int, seed: int, epoch: int) -> list[Batch]:
    """The batches of an epoch of stage 2."""
    return list(BankSource(rows(count), bank(), stage2(batch_size=batch_size), seed, CPU).batches(epoch))


def talkative(seed: int = 3) -> StubComposer:
    """A network for which each text has a different meaning."""
    vectors = features(50, seed)
    return StubComposer({f"text {i}": vectors[i] for i in range(50)})


def trainer(
    work: Path,
    scores: Callable[[Any], dict[str, float]] = lambda composer: SCORES,
    composer: StubComposer | None = None,
    source: Any = None,
    watch: Watch = unwatched,
    **changes: Any,
) -> Trainer:
    work.mkdir(parents=True, exist_ok=True)
    settings = stage2(**changes)
    source = source or BankSource(rows(), bank(), settings, 1, CPU)
    return Trainer(composer or talkative(), source, settings, 2, scores, "score", work, CPU, watch)


def last(work: Path) -> dict[str, Tensor]:
    return torch.load(work / "last.pt", weights_only=True)["state_dict"]


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_stage_2_moves_the_query_side_alone(tmp_path: Path) -> None:
    composer = talkative()
    trainer(tmp_path, composer=composer).fit()
    assert torch.equal(composer.image_side.weight, torch.eye(12))
    assert not torch.equal(composer.text_side.weight, torch.eye(12))


def test_a_step_is_adamw_on_the_paper_loss(tmp_path: Path) -> None:
    """One step of one epoch yields the weights of torch's AdamW for cross-entropy over the whole bank."""
    composer = talkative()
    trainer(tmp_path, composer=composer, epochs=1, batch_size=10).fit()
    (batch,) = batches(10, 10, 1, 1)
    expected = talkative()
    optimiser = torch.optim.AdamW([expected.text_side.weight], lr=1e-2, eps=1e-7, weight_decay=0.01)
    queries = expected.compose(features()[batch.reference], batch.texts)
    F.cross_entropy(queries @ F.normalize(features(), dim=1).T / 0.1, batch.target).backward()
    optimiser.step()
    torch.testing.assert_close(composer.text_side.weight, expected.text_side.weight, rtol=0, atol=1e-5)


def test_the_loss_falls(tmp_path: Path) -> None:
    """The loss falls from about log 9, for random queries, to a fit."""
    history = trainer(tmp_path, epochs=60, lr=0.05, batch_size=9).fit()
    losses = [epoch["loss"] for epoch in history.epochs]
    assert losses[-1] < 0.3 * losses[0]


def test_the_last_incomplete_batch_is_dropped(tmp_path: Path) -> None:
    """Ten triplets in batches of four make two steps in an epoch; every triplet occurs at most once."""
    history = trainer(tmp_path).fit()
    assert [step["step"] for step in history.steps] == list(range(1, 9))
    assert [step["epoch"] for step in history.steps] == [1, 1, 2, 2, 3, 3, 4, 4]
    texts = [text for batch in batches(10, 4, 1, 1) for text in batch.texts]
    assert len(set(texts)) == len(texts) == 8


def test_epochs_differ_and_a_seed_decides_them() -> None:
    def order(seed: int, epoch: int) -> list[str]:
        return [text for batch in batches(50, 10, seed, epoch) for text in batch.texts]

    assert order(1, 1) == order(1, 1)
    assert len({tuple(order(seed, epoch)) for seed in (1, 2) for epoch in (1, 2, 3)}) == 6
    assert sorted(order(1, 1)) == sorted(f"text {i}" for i in range(50))


def texts(count: int, epoch: int = 1, seed: int = 1, **changes: Any) -> list[list[str]]:
    """The texts of each step of an epoch of stage 2."""
    source = BankSource(rows(count), bank(), stage2(**changes), seed, CPU)
    found = [batch.texts for batch in source.batches(epoch)]
    assert len(found) == source.steps()
    return found


def test_an_epoch_of_given_steps_passes_over_the_triplets_again() -> None:
    """Each pass has its own order; no batch contains a triplet twice, and no pass an incomplete batch."""
    found = texts(10, batch_size=4, epoch_steps=5)
    assert found[:2] == texts(10, batch_size=4)
    passes = [found[start : start + 2] for start in (0, 2, 4)]
    for one in passes:
        read = [text for step in one for text in step]
        assert len(set(read)) == len(read) == 4 * len(one)
    assert passes[0] != passes[1]


def test_an_epoch_of_fewer_steps_is_the_beginning_of_a_pass() -> None:
    assert texts(20, batch_size=4, epoch_steps=2) == texts(20, batch_size=4)[:2]


def test_an_epoch_of_given_steps_depends_on_seed_and_epoch_alone() -> None:
    steps = {"batch_size": 4, "epoch_steps": 5}
    assert texts(10, 3, 2, **steps) == texts(10, 3, 2, **steps)
    assert len({str(texts(10, epoch, seed, **steps)) for epoch in (1, 2) for seed in (1, 2)}) == 4


@pytest.mark.parametrize("count", [6, 10, 33])
def test_runs_with_different_numbers_of_triplets_make_the_same_number_of_steps(tmp_path: Path, count: int) -> None:
    """A schedule that changes at each step ends with the last of them."""
    changes = {"epoch_steps": 5, "epochs": 2, "schedule": {"name": "warmup_cosine", "warmup": 0.3}}
    source = BankSource(rows(count), bank(), stage2(**changes), 1, CPU)
    history = trainer(tmp_path, source=source, **changes).fit()
    assert [step["step"] for step in history.steps] == list(range(1, 11))
    assert [step["epoch"] for step in history.steps] == [1] * 5 + [2] * 5
    assert history.epochs[-1]["learning_rate"] == pytest.approx(0, abs=1e-12)


def test_texts_stay_with_their_images() -> None:
    for batch in batches(50, 10, 0, 1):
        numbers = [int(text.split()[1]) for text in batch.texts]
        assert batch.reference.tolist() == [n % 9 for n in numbers]
        assert batch.target.tolist() == [(n + 1) % 9 for n in numbers]


def test_fewer_triplets_than_a_batch_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="batch_size 11 exceeds the 10 training triplets"):
        trainer(tmp_path, batch_size=11).fit()


def test_a_loss_that_is_not_finite_is_an_input_error(tmp_path: Path) -> None:
    """The state is not saved: a run with better settings starts again."""
    composer = talkative()
    composer.meaning["text 3"] = torch.full((12,), torch.inf)
    with pytest.raises(InputError, match="the loss is not finite in epoch 1; lower lr or raise tau"):
        trainer(tmp_path, composer=composer, batch_size=10).fit()
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_not_finite_ends_the_epoch_early(tmp_path: Path) -> None:
    """The loss is checked at step 50 of 200, not at the end of an epoch that may take hours."""
    composer = talkative()
    composer.text_side.weight.data.fill_(torch.nan)
    source = BankSource(rows(200), bank(), stage2(batch_size=1), 1, CPU)
    real, steps = composer.contrast, []
    composer.contrast = lambda *args: steps.append(1) or real(*args)  # type: ignore[method-assign]
    with pytest.raises(InputError, match="the loss is not finite in epoch 1"):
        trainer(tmp_path, composer=composer, source=source, batch_size=1).fit()
    assert len(steps) == 50


@pytest.mark.parametrize(
    ("chunk", "remedy"),
    [(None, r"set chunk to a part of batch_size \(4\)"), (3, r"lower chunk \(3\)"), (1, r"lower batch_size \(4\)")],
)
def test_a_step_that_the_gpu_cannot_hold_names_the_setting(tmp_path: Path, chunk: int | None, remedy: str) -> None:
    composer = talkative()

    def full(*args: Any) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has")

    composer.contrast = full  # type: ignore[method-assign]
    with pytest.raises(InputError, match=rf"^stage 2 epoch 1/4: a batch does not fit .* {remedy} of this stage in"):
        trainer(tmp_path, composer=composer, chunk=chunk).fit()


def test_a_run_in_chunks_ends_with_the_weights_of_one_without(tmp_path: Path) -> None:
    """Nine queries in a batch are composed four, four and one at a time, twice; without chunks nothing changes."""
    sizes: dict[int | None, list[int]] = {4: [], None: []}
    for chunk, counts in sizes.items():
        composer = talkative()
        compose = composer.compose
        composer.compose = lambda reference, texts, n=counts, f=compose: n.append(len(texts)) or f(reference, texts)  # type: ignore
        trainer(tmp_path / str(chunk), composer=composer, batch_size=9, epochs=2, chunk=chunk).fit()
    assert sizes == {4: [4, 4, 1, 1, 4, 4] * 2, None: [9] * 2}
    found, expected = last(tmp_path / "4"), last(tmp_path / "None")
    torch.testing.assert_close(found["text_side.weight"], expected["text_side.weight"], rtol=0, atol=1e-5)


def test_an_image_that_dedup_does_not_know_is_named() -> None:
    with pytest.raises(InputError, match="generated: image 'b' is not among the 1 unique training images"):
        triplet_rows([Triplet("a", ("x",), "b")], {"a": 0, "copy": 0}, "generated")


@pytest.mark.parametrize(
    ("scores", "best"), [([1, 2, 3, 4], 4), ([4, 3, 2, 1], 1), ([1, 3, 3, 2], 2), ([0, 0, 0, 0], 1)]
)
def test_the_best_epoch_is_strictly_better(tmp_path: Path, scores: list[float], best: int) -> None:
    """The first of equal scores is kept, with the weights of its epoch."""
    weights: list[Tensor] = []

    def score(composer: StubComposer) -> dict[str, float]:
        weights.append(composer.text_side.weight.detach().clone())
        return {"score": float(scores[len(weights) - 1]), "other": 7.0}

    history = trainer(tmp_path, score).fit()
    assert (history.best_epoch, history.best_score) == (best, max(scores))
    assert [epoch["score"] for epoch in history.epochs] == scores
    kept = torch.load(tmp_path / "best.pt", weights_only=True)
    assert kept["epoch"] == best
    assert torch.equal(kept["state_dict"]["text_side.weight"], weights[best - 1])
    assert torch.equal(last(tmp_path)["text_side.weight"], weights[3])


def killed_at(epoch: int, scores: Callable[[int], float] = lambda epoch: float(epoch)) -> Callable[[Any], Any]:
    """A score function that ends the run in the evaluation of an epoch."""
    seen: list[int] = []

    def score(composer: Any) -> dict[str, float]:
        seen.append(1)
        if len(seen) == epoch:
            raise Killed
        return {"score": scores(len(seen))}

    return score


@pytest.mark.parametrize("epoch", [1, 2, 4])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"bank_samples": 3},
        {"negatives": "batch"},
        {"precision": "bfloat16"},
        {"epoch_steps": 5},
        {"ema": 0.9, "learn_tau": True},
        {"symmetric": 0.5, "swaps": 2},
        {"hardness": 0.5, "false_negatives": {"quantile": 0.5}},
        {"schedule": {"name": "warmup_cosine", "warmup": 0.3}, "epoch_steps": 5},
    ],
    ids=str,
)
def test_a_killed_run_ends_with_the_same_bits(tmp_path: Path, epoch: int, changes: dict[str, Any]) -> None:
    """The run is killed in the evaluation of an epoch, before or after others were kept; also with drawn negatives."""
    whole = trainer(tmp_path / "1", killed_at(0), **changes).fit()
    with pytest.raises(Killed):
        trainer(tmp_path / "2", killed_at(epoch), **changes).fit()
    done = epoch - 1
    again = trainer(tmp_path / "2", lambda c, n=[done]: {"score": float(n.append(1) or done + len(n) - 1)}, **changes)
    history = again.fit()
    assert history == whole
    for name in ("best.pt", "last.pt"):
        first, second = (torch.load(tmp_path / run / name, weights_only=True) for run in "12")
        assert first["epoch"] == second["epoch"]
        assert_same(first["state_dict"], second["state_dict"])


def test_a_resumed_state_is_read_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AdamW's step counts on a GPU would make each step wait for the GPU, and its memory would hold the state twice."""
    trainer(tmp_path, epochs=1).fit()
    real, places = torch.load, []

    def load(*args: Any, **kwargs: Any) -> Any:
        places.append(kwargs["map_location"])
        return real(*args, **kwargs)

    monkeypatch.setattr(torch, "load", load)
    trainer(tmp_path, epochs=2).fit()
    assert places == ["cpu"]


@pytest.mark.parametrize("content", ["half", "", "noise"])
def test_a_damaged_state_is_named(tmp_path: Path, content: str) -> None:
    trainer(tmp_path, epochs=1).fit()
    path = tmp_path / "state.pt"
    half = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(half if content == "half" else content.encode())
    with pytest.raises(InputError, match=rf"^{path}: is .*; delete the folder {tmp_path} to train again$"):
        trainer(tmp_path, epochs=2).fit()


@pytest.mark.parametrize("name", ["save_composer", "save_tensors"])
@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_kill_while_weights_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, call: int
) -> None:
    """If killed between writing the best weights and their state, the epoch is repeated with equal results."""
    whole = trainer(tmp_path / "1").fit()
    real, calls = getattr(spn4cir.training.trainer, name), []

    def stopped(*args: Any) -> None:
        calls.append(1)
        if len(calls) == call:
            raise Killed
        real(*args)

    with monkeypatch.context() as patched:
        patched.setattr(spn4cir.training.trainer, name, stopped)
        try:
            trainer(tmp_path / "2").fit()
        except Killed:
            patched.undo()
    assert trainer(tmp_path / "2").fit() == whole
    assert_same(last(tmp_path / "2"), last(tmp_path / "1"))


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first = trainer(tmp_path).fit()
    expected = last(tmp_path)
    (tmp_path / "last.pt").unlink()

    def never(composer: Any) -> dict[str, float]:
        raise AssertionError("trained again")

    assert trainer(tmp_path, never).fit() == first
    assert_same(last(tmp_path), expected)


def loss_of(batch_size: int = 9, bank_rows: int = 9, **changes: Any) -> Tensor:
    """The stage-2 loss of the first batch."""
    source = BankSource(rows(9), bank(bank_rows), stage2(batch_size=batch_size, **changes), 1, CPU)
    batch = next(source.batches(1))
    return source.loss(talkative(), batch)


def test_negatives_of_the_batch_are_the_bank_when_it_holds_no_more() -> None:
    """Nine triplets with nine targets in a bank of nine give equal sums in another order."""
    torch.testing.assert_close(loss_of(negatives="batch"), loss_of(), rtol=1e-6, atol=1e-6)


def test_negatives_of_a_smaller_batch_are_fewer() -> None:
    assert float(loss_of(4, negatives="batch").detach()) < float(loss_of(4).detach())


def test_samples_of_the_whole_bank_are_the_bank() -> None:
    torch.testing.assert_close(loss_of(bank_samples=8), loss_of(), rtol=1e-6, atol=1e-6)
    assert float(loss_of(bank_samples=3).detach()) < float(loss_of().detach())


@pytest.mark.parametrize("changes", [{}, {"bank_samples": 8}, {"negatives": "batch"}], ids=str)
def test_false_negatives_leave_the_denominator(changes: dict[str, Any]) -> None:
    """Above -1, all images but the target and the reference leave it: two candidates remain for each query."""
    loss = loss_of(false_negatives={"above": -0.9999}, **changes)
    source = BankSource(rows(9), bank(9), stage2(batch_size=9), 1, CPU)
    batch = next(source.batches(1))
    queries = talkative().compose(batch.inputs[batch.positions(batch.reference)], batch.texts)
    target, reference = ((queries * bank(9).target[each]).sum(dim=1) / 0.1 for each in (batch.target, batch.reference))
    torch.testing.assert_close(loss, F.softplus(reference - target).mean(), rtol=1e-5, atol=1e-6)


def test_drawn_negatives_are_scored_in_float32_under_autocast() -> None:
    """The whole bank is scored in float32 too: bfloat16 would be off by 0.1 and more at tau 0.02."""
    full, sampled = ({"tau": 0.005} | extra for extra in ({}, {"bank_samples": 8}))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(loss_of(**sampled), loss_of(**full), rtol=1e-5, atol=1e-5)


def image_source(root: Path, batch_size: int = 4) -> ImageSource:
    layout = open_layout("fashioniq", write_fashioniq(root, images=3), "error")
    unique = deduplicate(layout.training_gallery(), 0)
    found = triplet_rows(layout.training_triplets(), unique.row, "x")
    settings = optimisation(batch_size=batch_size)
    return ImageSource(found, settings, 1, 0, CPU, ImageFiles(unique.gallery.paths, StubComposer().preprocess))


def test_stage_1_encodes_each_image_of_a_step_once(tmp_path: Path) -> None:
    """The loss equals the in-batch loss of features encoded triplet by triplet."""
    source, composer = image_source(tmp_path), StubComposer()
    for batch in source.batches(1):
        composer.encoded = 0
        loss = source.loss(composer, batch)
        assert composer.encoded == len(set(batch.reference.tolist()) | set(batch.target.tolist()))
        crops = [torch.stack([source.files[i] for i in part.tolist()]) for part in (batch.reference, batch.target)]
        pixels = [composer.preprocess.normalise(part) for part in crops]
        reference, target = composer.encode_image(pixels[0]).reference, composer.encode_image(pixels[1]).target
        queries = composer.compose(reference, batch.texts)
        expected = F.cross_entropy(queries @ target.T / 0.1, torch.arange(4))
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)


def test_stage_1_reaches_both_sides(tmp_path: Path) -> None:
    source, composer = image_source(tmp_path / "data"), StubComposer()
    Trainer(composer, source, source.settings, 1, lambda c: SCORES, "score", tmp_path, CPU).fit()
    for side in (composer.image_side, composer.text_side):
        assert not torch.equal(side.weight, torch.eye(12))


def test_a_broken_image_in_a_step_is_one_line(tmp_path: Path) -> None:
    source = image_source(tmp_path)
    broken = source.files.paths[4]
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(InputError, match=rf"{broken.name}: cannot be decoded"):
        list(replace(source, workers=1).batches(1))


PROTOCOL = Validate(remove_reference=True, capitalise=False, batch_size=8, sheet_queries=1)


def clip_stage(stage: int, root: Path, epochs: int = 3) -> None:
    """Trains a tiny CLIP on a tiny CIRR root; builds the bank if it is missing."""
    layout = open_layout("cirr", root / "cirr", "error")
    unique: UniqueImages = deduplicate(layout.training_gallery(), 0)
    composer = load_composer(root / "clip.pt")
    work, out = root / f"work{stage}", root / f"out{stage}"
    work.mkdir(exist_ok=True)
    setup = TrainingSetup(layout, layout.training_triplets(), PROTOCOL, seed=1, work=work, workers=0, device=CPU)
    if stage == 1:
        settings = optimisation(lr=1e-3, epochs=epochs, batch_size=6)
        train_stage1(composer, unique, settings, setup, out / "best.pt")
        return
    bank_settings = BankSettings(dtype="float32", batch_size=8, reference="stored", images="annotated")
    if not (root / "bank").exists():
        (root / "bankwork").mkdir(exist_ok=True)
        build_bank(composer, unique, bank_settings, root / "bank", root / "bankwork", 0, CPU)
    opened = open_bank(root / "bank", composer, unique, bank_settings)
    train_stage2(composer, opened, stage2(lr=1e-3, epochs=epochs, batch_size=6), setup, out)


STOP = """
import os, signal
from pathlib import Path
from spn4cir.training.trainer import Trainer

real = Trainer._train_epoch

def stop(self, epoch, *rest):
    losses = real(self, epoch, *rest)
    if epoch == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return losses

Trainer._train_epoch = stop
from tests.unit.test_trainer import clip_stage

clip_stage(2, Path({root!r}))
"""


def kill_stage_1(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills stage 1 in the evaluation of the second epoch."""
    calls: list[int] = []
    real = spn4cir.training.setup.evaluate

    def stop(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise Killed
        return real(*args)

    with monkeypatch.context() as patched:
        patched.setattr(spn4cir.training.setup, "evaluate", stop)
        with pytest.raises(Killed):
            clip_stage(1, root)


def kill_stage_2(root: Path) -> None:
    """Kills stage 2 by a real SIGKILL in the second epoch, in a separate process."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", STOP.format(root=str(root))]
    ended = subprocess.run(command, env=environment, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()


@dataclass(frozen=True)
class OtherMachine(Group):
    """A second process, on a machine that does not see the unfinished run: it begins at the first epoch."""

    def maximum(self, values: Tensor) -> Tensor:
        return torch.maximum(values, torch.zeros_like(values))


def test_processes_that_resume_after_different_epochs_are_named(tmp_path: Path) -> None:
    second = replace(trainer(tmp_path), group=OtherMachine(0, 2))
    second._check_group(0)
    with pytest.raises(InputError, match=r"one process resumes after epoch 0, another after epoch 2; put the"):
        second._check_group(2)


@pytest.mark.parametrize("stage", [1, 2])
def test_a_killed_run_of_a_real_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: int) -> None:
    """The weights equal those of a run without a kill; stage 1 trains both towers, stage 2 only the text tower."""
    for run in ("whole", "killed"):
        write_cirr(tmp_path / run / "cirr", train_groups=2, val_groups=1)
        write_checkpoint(tmp_path / run / "clip.pt")
    clip_stage(stage, tmp_path / "whole")
    if stage == 1:
        kill_stage_1(tmp_path / "killed", monkeypatch)
    else:
        kill_stage_2(tmp_path / "killed")
    assert (tmp_path / "killed" / f"work{stage}" / "state.pt").is_file()
    assert not (tmp_path / "killed" / f"out{stage}").exists()
    clip_stage(stage, tmp_path / "killed")
    names = ["best.pt"] if stage == 1 else ["best.pt", "last.pt"]
    key = "CLIP" if stage == 1 else "state_dict"
    for name in names:
        first, second = (
            torch.load(tmp_path / run / f"out{stage}" / name, weights_only=True) for run in ("whole", "killed")
        )
        assert first["epoch"] == second["epoch"]
        assert_same(first[key], second[key])
    before = load_composer(tmp_path / "whole" / "clip.pt").state_dict()
    after = load_composer(tmp_path / "whole" / f"out{stage}" / "best.pt").state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.startswith("clip.visual.") for name in moved) == (stage == 1)
    assert "clip.text_projection" in moved
    assert "clip.logit_scale" not in moved


@pytest.mark.parametrize("stage", [1, 2])
def test_a_fault_in_the_validation_queries_is_found_before_the_first_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: int
) -> None:
    write_cirr(tmp_path / "cirr", train_groups=2, val_groups=1)
    write_checkpoint(tmp_path / "clip.pt")
    (tmp_path / "cirr" / "cirr" / "captions" / "cap.rc2.val.json").unlink()
    monkeypatch.setattr(Trainer, "fit", lambda self: pytest.fail("an epoch was trained"))
    with pytest.raises(InputError, match=r"cap\.rc2\.val\.json: no such file"):
        clip_stage(stage, tmp_path)


def test_positives_are_annotated_generated_or_both(tmp_path: Path) -> None:
    """The file of generated triplets is not read if it is not needed."""
    layout = open_layout("cirr", write_cirr(tmp_path), "error")
    written = Triplet("train-0-0-img0", ("x",), "train-0-0-img3", generated=True)
    path = write(tmp_path / "generated.json", [layout.generated_record(written, "a", "b")])
    annotated = layout.training_triplets()
    assert positives(layout, path, "generated") == (written,)
    assert positives(layout, path, "both") == (*annotated, written)
    assert positives(layout, tmp_path / "none.json", "annotated") == annotated
