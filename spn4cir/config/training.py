"""The settings of stage 1, bank and stage 2."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from spn4cir.config.base import FromHub, HubFile, Positive, Rate, Settings, Share


class Constant(Settings):
    """The learning rate stays as it is."""

    name: Literal["constant"]


class Decay(Settings):
    """The rate is multiplied by `factor` after every `every` epochs, until that many epochs are done."""

    name: Literal["decay"]
    factor: Rate
    every: Positive
    until: Positive


class Cosine(Settings):
    """Half a cosine from the rate to zero over so many epochs, set at each epoch; beyond them it rises again."""

    name: Literal["cosine"]
    epochs: Positive


class OneCycle(Settings):
    """Up from `start` times the rate, at its peak after so many epochs, then down to nearly zero; set each step.

    A run of fewer than twice as many epochs has its peak half way.
    """

    name: Literal["one_cycle"]
    peak: Rate
    start: Annotated[float, Field(gt=0, lt=1)]


Schedule = Annotated[Constant | Decay | Cosine | OneCycle, Field(discriminator="name")]


class Optimisation(Settings):
    """What both training stages share. `precision` applies to training on a GPU (CPU: bfloat16 or float32).

    `learn_tau`: tau is where a learned temperature begins. `backbone_lr`: of the pretrained towers; null: `lr`.
    """

    tau: Rate
    learn_tau: bool
    lr: Rate
    backbone_lr: Rate | None
    schedule: Schedule
    dropout: bool
    batch_size: Positive
    epochs: Positive
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    betas: tuple[Share, Share]
    eps: Rate
    precision: Literal["float32", "float16", "bfloat16"]


class CheckpointSettings(FromHub):
    """Stage 1: a published file (`path`, `hub`), or training from a base model (`train`), on triplets of one kind."""

    source: Literal["path", "hub", "train"]
    hub: HubFile | None
    positives: Literal["annotated", "generated"]
    train: Optimisation


class BankSettings(Settings):
    """The features of the unique training images, or of those that generated triplets name.

    `dtype`: of the reference rows; targets are always float32. `reference`: rows stored on disk, or encoded again in
    each step.
    """

    dtype: Literal["float16", "float32"]
    batch_size: Positive
    reference: Literal["stored", "recomputed"]
    images: Literal["annotated", "generated"]


class Train(Optimisation):
    """Stage 2: the query side against the bank, or for comparison against the batch."""

    negatives: Literal["bank", "batch"]
    bank_samples: Positive | None
    positives: Literal["annotated", "generated", "both"]

    @model_validator(mode="after")
    def _samples_need_the_bank(self) -> "Train":
        if self.bank_samples is not None and self.negatives != "bank":
            raise ValueError("bank_samples draws from the bank: set negatives to bank, or bank_samples to null")
        return self
