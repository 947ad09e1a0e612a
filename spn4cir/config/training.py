"""The settings of stage 1, of the bank and of stage 2."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from spn4cir.config.base import FromHub, HubFile, Positive, Rate, Settings, Share

Fraction = Annotated[float, Field(gt=0, lt=1)]


class Constant(Settings):
    """A constant learning rate."""

    name: Literal["constant"]


class Decay(Settings):
    """A learning rate that is multiplied by `factor` after every `every` epochs, until epoch `until`."""

    name: Literal["decay"]
    factor: Rate
    every: Positive
    until: Positive


class Cosine(Settings):
    """A learning rate that falls to zero along half a cosine over `epochs` epochs and then rises; set at each epoch."""

    name: Literal["cosine"]
    epochs: Positive


class OneCycle(Settings):
    """A learning rate that rises from `start` times `lr` to `lr` after `peak` epochs, then falls to nearly zero.

    It is set at each step. A run of fewer than twice `peak` epochs has its peak half way.
    """

    name: Literal["one_cycle"]
    peak: Rate
    start: Fraction


class WarmupCosine(Settings):
    """A learning rate that rises to `lr` over the share `warmup` of all steps, then falls to zero along half a cosine.

    It is set at each step.
    """

    name: Literal["warmup_cosine"]
    warmup: Share


Schedule = Annotated[Constant | Decay | Cosine | OneCycle | WarmupCosine, Field(discriminator="name")]


class Optimisation(Settings):
    """Settings of an optimisation, for both training stages.

    `tau` is the temperature; with `learn_tau` it is the start value of a learned one. `backbone_lr` is the learning
    rate of the pretrained towers; null uses `lr`. `precision` applies to training on a GPU (CPU: bfloat16 or float32).
    `chunk` is the number of images, and of queries, that a step computes at once; null: all of the batch.
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
    chunk: Positive | None


class CheckpointSettings(FromHub):
    """Settings of stage 1: a published file (`path`, `hub`) or training from a base model on one kind of triplets."""

    source: Literal["path", "hub", "train"]
    hub: HubFile | None
    positives: Literal["annotated", "generated"]
    train: Optimisation


class BankSettings(Settings):
    """Settings of the bank: features of the unique training images, or of the images that generated triplets name.

    `dtype` is the number type of reference rows; targets are always float32. `reference` says whether these rows are
    stored on disk or encoded again in each step.
    """

    dtype: Literal["float16", "float32"]
    batch_size: Positive
    reference: Literal["stored", "recomputed"]
    images: Literal["annotated", "generated"]


class Above(Settings):
    """False negatives: images whose similarity to the target exceeds a value."""

    above: Annotated[float, Field(gt=-1, lt=1)]


class Quantile(Settings):
    """False negatives: images whose similarity to the target exceeds a quantile of those of the bank to the target."""

    quantile: Annotated[float, Field(gt=0, lt=1)]


class Train(Optimisation):
    """Settings of stage 2, which trains the query side against the bank or, for comparison, against the batch.

    Attributes:
        generated_loss: loss of generated triplets.
        generated_weight: weight of a generated triplet in the mean over a batch; that of an annotated one is 1.
        hardness: beta, the exponent of the weights of negatives; 0: equal weights.
        false_negatives: images that leave the denominator, because they resemble the target; null: none.
        epoch_steps: steps in an epoch; null: one pass over the triplets.
        ema: decay of a moving average of the trained weights; null: none.
        averaging: shares of the trained weights in averages with the weights of stage 1, of which the best by its
            validation score is kept; null: none.
        symmetric: weight of the loss from targets to the queries of the batch.
        swaps: wrong compositions of each query, as negatives for its target; 0: none.
    """

    epoch_steps: Positive | None
    ema: Fraction | None
    averaging: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)] | None
    symmetric: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    swaps: Annotated[int, Field(ge=0)]
    negatives: Literal["bank", "batch"]
    bank_samples: Positive | None
    positives: Literal["annotated", "generated", "both"]
    generated_loss: Literal["info_nce", "robust"]
    generated_weight: Rate
    hardness: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    false_negatives: Above | Quantile | None

    @model_validator(mode="after")
    def _samples_need_the_bank(self) -> "Train":
        if self.bank_samples is not None and self.negatives != "bank":
            raise ValueError("bank_samples draws from the bank: set negatives to bank, or bank_samples to null")
        return self

    @model_validator(mode="after")
    def _swaps_fit_the_batch(self) -> "Train":
        if self.swaps >= self.batch_size:
            raise ValueError(
                f"swaps {self.swaps} takes as many other triplets of a batch of {self.batch_size}: lower swaps, or "
                "raise batch_size"
            )
        return self
