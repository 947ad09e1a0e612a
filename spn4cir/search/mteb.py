"""A network as an MTEB model: it encodes the batches of MTEB's data loaders, and scores with its own rule."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from spn4cir.checkpoints.open import weights_hash
from spn4cir.checkpoints.pretrained import pretrained_name
from spn4cir.errors import InputError
from spn4cir.progress import progress
from spn4cir.search.batch_encoder import Embeddings
from spn4cir.search.encoder import Encoder
from spn4cir.search.inputs import Item

if TYPE_CHECKING:
    from mteb.models import ModelMeta
    from mteb.types import BatchedInput, PromptType
    from torch.utils.data import DataLoader

ORGANISATION = "local"
_REVISION_LENGTH = 12


class MtebModel:
    """MTEB's encoder protocol (version 2) over an `Encoder`.

    Queries and documents of a task are encoded as `Encoder` encodes them: queries are composed of an image and a text,
    of an image and the empty text, or of a text alone; documents are images. Instructions of a task are ignored, as
    the network is not trained with any.

    Args:
        model_name: path of a checkpoint or a hub folder, or name of a pretrained network; else a repository on the hub,
            `owner/name`.
        revision: branch, tag or commit of the repository; None: `main`.
        device: `auto`, `cpu`, `cuda` or `cuda:0`; None: `auto`.
        settings: further arguments of `Encoder.from_checkpoint`, for a checkpoint or a pretrained network.

    Raises:
        InputError: the checkpoint or the repository cannot be opened, or settings are given for a repository.
    """

    def __init__(
        self, model_name: str, revision: str | None = None, *, device: str | None = None, **settings: Any
    ) -> None:
        place = Path(model_name)
        self.encoder: Encoder
        pretrained = pretrained_name(place)
        if pretrained is not None or place.exists():
            self.encoder = Encoder.from_checkpoint(place, device=device or "auto", **settings)
            shown = pretrained.short if pretrained else place.absolute().name
            self._name = f"{ORGANISATION}/{re.sub(r'[^A-Za-z0-9._-]+', '-', shown)}"
            self._revision = weights_hash(place, self.encoder.composer)[:_REVISION_LENGTH]
        else:
            if settings:
                raise InputError(
                    f"{model_name}: no such file, and {', '.join(settings)} is not for the hub; leave it out"
                )
            self.encoder = Encoder.from_hub(model_name, revision or "main", device=device or "auto")
            self._name, self._revision = model_name, revision or "main"

    def encode(
        self,
        inputs: "DataLoader[BatchedInput]",
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: "PromptType | None" = None,
        **options: Any,
    ) -> Tensor:
        """Encodes queries or documents of a task, batch by batch.

        Args:
            inputs: batches with lists of PIL images under `image`, of texts under `text` and, without the instruction,
                under `query`.
            task_metadata: the task, for messages.
            hf_split: ignored.
            hf_subset: ignored.
            prompt_type: `query` or `document`; None: an input with a text is a query, an image alone a document.
            options: `show_progress_bar`; others are ignored, as the loader sets the `batch_size`.

        Returns:
            Unit-norm embeddings (inputs, dim), documents of BLIP-2 (inputs, 32, dim), on the CPU.

        Raises:
            InputError: the documents of the task have texts, or its inputs are neither images nor texts.
        """
        del hf_split, hf_subset
        queries = None if prompt_type is None else str(prompt_type) == "query"
        shown = progress(inputs, len(inputs), "encode", "batch") if options.get("show_progress_bar") else inputs
        try:
            rows = [row for batch in shown for row in self.encoder.embed(_items(batch), queries)]
        except InputError as error:
            raise InputError(f"task {task_metadata.name}: {error}") from None
        return self.encoder.stack(rows, queries)

    def similarity(self, embeddings1: Embeddings, embeddings2: Embeddings) -> Float[Tensor, "queries documents"]:
        """The network's score of all queries with all documents; see `Encoder.similarity`."""
        return self.encoder.similarity(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Embeddings, embeddings2: Embeddings) -> Float[Tensor, " pairs"]:
        """The network's score of each query with the document of the same position."""
        return self.encoder.similarity_pairwise(embeddings1, embeddings2)

    @property
    def mteb_model_meta(self) -> "ModelMeta":
        """Name and revision of the results; the revision of a file or a folder is the hash of its weights."""
        from mteb.models import ModelMeta

        count = sum(parameter.numel() for _, parameter in self.encoder.composer.named_parameters())
        return ModelMeta(
            loader=type(self),
            name=self._name,
            revision=self._revision,
            release_date=None,
            languages=["eng-Latn"],
            n_parameters=count,
            memory_usage_mb=count * 4 / 2**20,
            max_tokens=self.encoder.max_seq_length,
            embed_dim=self.encoder.dim,
            license=None,
            open_weights=None,
            public_training_code=None,
            public_training_data=None,
            framework=["PyTorch"],
            similarity_fn_name=self.encoder.similarity_fn_name,  # type: ignore[arg-type]  # its validator takes names
            use_instructions=False,
            training_datasets=None,
            modalities=["image", "text"],
            model_type=["dense" if self.encoder.tokens == 1 else "late-interaction"],
        )


def _items(batch: Mapping[str, Any]) -> list[Item]:
    # For a query with an instruction, MTEB puts both into `text`, and the query alone into `query`.
    images, texts = batch.get("image"), batch.get("query", batch.get("text"))
    if images is None and texts is None:
        raise InputError(f"its inputs contain {', '.join(batch)}, expected 'image' and 'text'")
    nothing = [None] * len(next(iter(batch.values())))
    return [Item(image, text) for image, text in zip(images or nothing, texts or nothing, strict=True)]
