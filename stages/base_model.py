"""The model that stage 1 begins with."""

import torch

from spn4cir.composers import composer_class
from spn4cir.composers.protocol import Composer, Options
from spn4cir.config.params import HubModel, LocalModel, OpenClipModel, of_dataset
from stages.common import Job

ModelSource = HubModel | LocalModel | OpenClipModel


def model_source(job: Job) -> ModelSource:
    """The family's stage-1 model as the settings name it."""
    return job.of_family(of_dataset(job.params.models, job.dataset, "models").stage1, "models.{}.stage1")


def tokenizer_options(job: Job) -> Options:
    """The tokenizer, a folder beside the family's model or a hub id; only families that need one read it."""
    source = of_dataset(job.params.models, job.dataset, "models").tokenizer
    if isinstance(source, HubModel):
        return Options(tokenizer=source.hub, revision=source.revision)
    return Options(tokenizer=str(job.model(f"stage1/{job.family}", source)))


def base_model(job: Job, source: ModelSource) -> Composer:
    """The base model with new heads, initialised from the seed."""
    cls = composer_class(job.family)
    torch.manual_seed(job.params.seed)
    if isinstance(source, LocalModel):
        return cls.from_base(str(job.model(f"stage1/{job.family}", source)), None, tokenizer_options(job))
    if isinstance(source, OpenClipModel):
        return cls.from_base(source.open_clip, source.tag, tokenizer_options(job))
    return cls.from_base(source.hub, source.revision, tokenizer_options(job))
