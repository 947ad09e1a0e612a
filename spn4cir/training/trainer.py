"""The training loop of both stages, which differ only in their source: the step's images, or the bank."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from spn4cir.checkpoints.published import save_composer, save_tensors
from spn4cir.composers.protocol import Composer
from spn4cir.config.training import Optimisation, Train
from spn4cir.datasets.protocol import Scores
from spn4cir.device import memory_errors, peak_memory
from spn4cir.errors import InputError
from spn4cir.parallel import ALONE, Group
from spn4cir.progress import progress
from spn4cir.training.averaging import copied, keep_best_share
from spn4cir.training.batches import Source
from spn4cir.training.chunks import chunked, memory_remedy
from spn4cir.training.optimiser import TrainingRun, autocast_dtype, set_dropout
from spn4cir.weights import read_plain

BEST, LAST = "best.pt", "last.pt"
_STATE = "state.pt"
# The trained parameters of the best epoch, by position, for averages of weights.
_BEST_WEIGHTS = "best_weights.pt"
# Steps between two checks of the losses within an epoch: each check waits for the device.
_CHECK_STEPS = 50
# Between the seeds of dropout of two processes, so that those of their epochs do not meet.
_SEEDS_APART = 1_000_003


@dataclass
class History:
    """Losses, scores and speed of a training run.

    Attributes:
        steps: step (from 1, over all epochs), epoch and loss of each step.
        epochs: epoch (from 1), mean loss, `score` (the score that selects the best epoch), learning rate after the
            epoch, temperature and every score, in percent; no scores without validation.
        speed: images per second and peak memory of each epoch. The images are those that the steps read, as pixels or
            as rows of the bank; validation is excluded. The values differ in every run, so comparisons ignore them.
        best_epoch: the epoch whose weights are kept as the best; 0 before the first.
        best_score: score of the weights that are kept as the best; None before the first epoch, and without validation.
        averaging: share, score and every score of each average of the weights before and after training, and which one
            is kept as the best; empty if none is compared.
    """

    steps: list[dict[str, float]] = field(default_factory=list)
    epochs: list[dict[str, float]] = field(default_factory=list)
    speed: list[dict[str, float]] = field(default_factory=list, compare=False)
    best_epoch: int = 0
    best_score: float | None = None
    averaging: list[dict[str, float]] = field(default_factory=list)


Score = Callable[[Composer], Scores]
Watch = Callable[[History], None]


def unwatched(history: History) -> None:
    """Ignores the history: the default `Watch`."""


@dataclass(frozen=True)
class Trainer:
    """One stage of training.

    Attributes:
        composer: the network, on `device`; trained in place, with BatchNorm frozen and dropout only if the settings
            enable it.
        source: batches and their losses.
        settings: optimiser, epochs, precision.
        stage: 1 or 2; decides which parameters are frozen and the container of the files.
        evaluate: returns the validation scores of the network; None: no validation, and the last epoch is the best.
        selection: name of the score that selects the best epoch; a later epoch must score strictly higher.
        work: folder of the state of an unfinished run; at most one epoch is lost.
        device: device of the network.
        watch: called with the history whenever it has grown; a resumed run first passes the history it resumes from.
        group: the processes that train together. The first one validates, calls `watch` and writes the files; all of
            them resume from these.
    """

    composer: Composer
    source: Source
    settings: Optimisation
    stage: int
    evaluate: Score | None
    selection: str
    work: Path
    device: torch.device
    watch: Watch = unwatched
    group: Group = ALONE

    def fit(self) -> History:
        """Trains to the last epoch and writes `best.pt` and `last.pt` to the work folder.

        With a moving average, the averaged weights are scored and written. With the setting `averaging`, `best.pt`
        contains the best average of the weights before training and those of the best epoch.

        Raises InputError if the loss is not finite, a batch does not fit into the memory of the GPU, there are fewer
        triplets than a batch holds, or averages are to be compared without validation.
        """
        if self._shares and self.evaluate is None:
            raise InputError(
                f"stage {self.stage}: averaging chooses by validation scores, and there is no validation; "
                "add validation triplets, or set averaging to null"
            )
        run = TrainingRun.begin(self.composer, self.settings, self.stage, self.source.steps(), self.device, self.group)
        before = copied(run.trained) if self._shares else []
        history = self._resume(run)
        self._check_group(len(history.epochs))
        self._report(history)
        for epoch in range(len(history.epochs) + 1, self.settings.epochs + 1):
            self._train_epoch(epoch, run, history)
            if self.group.first:
                with run.averaged():
                    self._record(history, epoch, run)
                save_tensors(run.state() | {"history": asdict(history)}, self.work / _STATE)
        if self.group.first:
            with run.averaged():
                save_composer(self.composer, self.work / LAST, self.stage, self.settings.epochs)
            if self._shares:
                self._average(run, before, history)
        return history

    def _check_group(self, epochs: int) -> None:
        """Raises InputError unless all processes resume after the same epoch."""
        largest, smallest = (self.group.maximum(torch.tensor([epochs, -epochs])) * torch.tensor([1, -1])).tolist()
        if largest != smallest:
            raise InputError(
                f"{self.work}: one process resumes after epoch {smallest}, another after epoch {largest}; put the "
                "project on a file system that all machines share"
            )

    def _report(self, history: History) -> None:
        if self.group.first:
            self.watch(history)

    @property
    def _shares(self) -> list[float]:
        """The shares of the trained weights to compare, the largest first: 1 is one of them, unless there is none."""
        averaging = self.settings.averaging if isinstance(self.settings, Train) else None
        return [] if averaging is None else sorted({1.0, *averaging}, reverse=True)

    def _average(self, run: TrainingRun, before: list[Tensor], history: History) -> None:
        """Writes the best average of the weights before training and those of the best epoch as `best.pt`."""
        assert self.evaluate is not None
        after = [tensor.to(self.device) for tensor in self._read(_BEST_WEIGHTS)["weights"]]
        evaluate, selection = partial(self.evaluate, self.composer), self.selection
        history.averaging = keep_best_share(run.trained, before, after, self._shares, evaluate, selection)
        history.best_score = max(row["score"] for row in history.averaging)
        save_composer(self.composer, self.work / BEST, self.stage, history.best_epoch)
        self.watch(history)

    def _train_epoch(self, epoch: int, run: TrainingRun, history: History) -> None:
        dtype = autocast_dtype(self.settings, self.device)
        losses: list[Tensor] = []
        images, started = 0, time.perf_counter()
        label = f"stage {self.stage} epoch {epoch}/{self.settings.epochs}"
        seed = self.source.seed + epoch + self.group.rank * _SEEDS_APART
        set_dropout(self.composer, self.settings.dropout, seed)
        for batch in progress(self.source.batches(epoch), self.source.steps(), label, "step"):
            with memory_errors(label, self.settings.batch_size, memory_remedy(self.settings)):
                run.optimiser.zero_grad(set_to_none=True)
                with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None):
                    loss = self.source.loss(chunked(self.composer, self.settings.chunk), batch)
                run.step(loss)
            losses.append(loss.detach())
            images += len(batch.inputs)
            if len(losses) == _CHECK_STEPS:
                self._note(history, epoch, losses)
        self._note(history, epoch, losses)
        images = int(self.group.sum(torch.tensor(images)))
        rate = images / (time.perf_counter() - started)
        history.speed.append({"images_per_second": rate, "memory_mb": peak_memory(self.device)})
        set_dropout(self.composer, False, 0)
        run.end_epoch()

    def _note(self, history: History, epoch: int, losses: list[Tensor]) -> None:
        """Moves the losses of steps from the device to the history."""
        if not losses:
            return
        values = [float(loss) for loss in self.group.sum(torch.stack(losses)).cpu()]
        losses.clear()
        if not isfinite(sum(values)):
            raise InputError(f"stage {self.stage}: the loss is not finite in epoch {epoch}; lower lr or raise tau")
        first = len(history.steps) + 1
        history.steps.extend({"step": first + i, "epoch": epoch, "loss": loss} for i, loss in enumerate(values))
        self._report(history)

    def _record(self, history: History, epoch: int, run: TrainingRun) -> None:
        mean = fmean(row["loss"] for row in history.steps if row["epoch"] == epoch)
        scores = self.evaluate(self.composer) if self.evaluate else {}
        score = scores[self.selection] if scores else None
        selecting = {} if score is None else {"score": score}
        state = {"learning_rate": run.learning_rate(), "temperature": float(self.composer.temperature.detach())}
        history.epochs.append({"epoch": epoch, "loss": mean, **selecting, **state, **scores})
        print(f"epoch {epoch}: loss {mean:.4f}" + (f", {self.selection} {score:.2f}" if scores else ""), flush=True)
        if score is None or history.best_score is None or score > history.best_score:
            history.best_epoch, history.best_score = epoch, score
            save_composer(self.composer, self.work / BEST, self.stage, epoch)
            if self._shares:
                save_tensors({"weights": copied(run.trained)}, self.work / _BEST_WEIGHTS)
        self.watch(history)

    def _resume(self, run: TrainingRun) -> History:
        """Restores the state of an unfinished run, if there is one."""
        if not (self.work / _STATE).is_file():
            return History()
        # On the CPU: loading moves to the device what belongs there, and AdamW keeps its step counts on the CPU.
        state = self._read(_STATE)
        run.resume(state)
        history = History(**state["history"])
        print(f"stage {self.stage}: resumed after epoch {len(history.epochs)}/{self.settings.epochs}", flush=True)
        return history

    def _read(self, name: str) -> dict[str, Any]:
        """Reads a file of the work folder. Raises InputError if it is damaged."""
        try:
            return read_plain(self.work / name)
        except InputError as error:
            reason = str(error).partition("; ")[0]
            raise InputError(f"{reason}; delete the folder {self.work} to train again") from None
