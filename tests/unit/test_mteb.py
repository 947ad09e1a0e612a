"""MTEB calls a network: the figures of a local task are ours, and what the batches mean."""

import sys
from pathlib import Path

import mteb
import numpy as np
import pytest
import torch
from datasets import Dataset
from datasets import Image as ImageColumn
from mteb._create_dataloaders import create_dataloader
from mteb.models import EncoderProtocol
from mteb.types import PromptType
from PIL import Image
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from torch.utils.data import DataLoader
from typer.testing import CliRunner

from spn4cir.cli import app
from spn4cir.config.params import Validate
from spn4cir.datasets import open_layout
from spn4cir.errors import InputError
from spn4cir.evaluation.evaluate import encode_splits, evaluate
from spn4cir.search.mteb import MtebModel
from tests.conftest import CPU
from tests.helpers.layouts import draw, write_cirr
from tests.helpers.pages import run_page
from tests.helpers.published import flags, write_published

# The protocol that MTEB's evaluator has: the reference stays in the ranking.
KEPT = Validate(remove_reference=False, capitalise=False, batch_size=8, sheet_queries=1)


@pytest.fixture(params=["clip", "blip2"])
def model(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub folder, beside a CIRR root of 24 validation queries."""
    monkeypatch.chdir(tmp_path)
    write_published(tmp_path / "a.pt", request.param, 2)
    to = ["export", "--to", "hub-folder", "--checkpoint", "a.pt", "--out", "my-model", *flags(request.param, tmp_path)]
    assert CliRunner().invoke(app, to).exit_code == 0
    write_cirr(tmp_path / "cirr", val_groups=4)
    return Path("my-model")


def test_the_page_runs_and_its_figures_are_ours(model, capsys):
    """docs/mteb.md as written: MTEB's evaluator over a local task of the retrieval kind."""
    names = run_page("mteb.md")
    layout = open_layout("cirr", Path("cirr"), "error")
    composer, splits = names["model"].encoder.composer, layout.evaluation_splits()
    ours = evaluate(composer, layout, splits, encode_splits(composer, splits, KEPT, 0, CPU), KEPT, CPU).scores
    found = {key: 100 * names["scores"][key] for key in ("recall_at_1", "recall_at_5", "recall_at_10")}
    assert list(found.values()) == pytest.approx([ours[f"recall_at{k}"] for k in (1, 5, 10)], abs=1e-3)
    assert 0 < found["recall_at_5"] < 100
    assert len(capsys.readouterr().out.split()) == 3
    assert len(splits[0].triplets) == 24


def test_the_evaluator_of_sentence_transformers_gives_our_figures(model):
    """It calls encode_query, encode_document and similarity, with its own batches."""
    layout, encoder = open_layout("cirr", Path("cirr"), "error"), MtebModel("my-model", device="cpu").encoder
    (split,) = layout.evaluation_splits()
    path = dict(zip(split.gallery.names, split.gallery.paths, strict=True))
    queries = {
        str(number): {"image": path[each.reference_name], "text": each.captions[0]}
        for number, each in enumerate(split.triplets)
    }
    answers = {str(number): {each.target_name} for number, each in enumerate(split.triplets)}
    evaluator = InformationRetrievalEvaluator(
        queries, path, answers, precision_recall_at_k=[1, 5, 10], score_functions={"ours": encoder.similarity}
    )
    found = evaluator.compute_all_metrics(encoder)["ours"]["recall@k"]
    images = encode_splits(encoder.composer, [split], KEPT, 0, CPU)
    ours = evaluate(encoder.composer, layout, [split], images, KEPT, CPU).scores
    assert [100 * found[k] for k in (1, 5, 10)] == pytest.approx([ours[f"recall_at{k}"] for k in (1, 5, 10)], abs=1e-3)


@pytest.fixture
def small(tmp_path: Path) -> MtebModel:
    return MtebModel(str(write_published(tmp_path / "my model.pt", "clip")), device="cpu")


def batches(*rows: dict[str, object], size: int = 2) -> DataLoader:
    def collate(given: list[dict[str, object]]) -> dict[str, list[object]]:
        return {key: [row[key] for row in given] for key in given[0]}

    return DataLoader(list(rows), batch_size=size, collate_fn=collate)


TASK = mteb.get_task("CIRRIT2IRetrieval").metadata
WHERE = {"task_metadata": TASK, "hf_split": "test", "hf_subset": "default"}


def test_it_is_what_the_library_calls_an_encoder(small):
    assert isinstance(small, EncoderProtocol)
    meta = small.mteb_model_meta
    assert (meta.name, meta.embed_dim, meta.modalities) == ("local/my-model.pt", 32, ["image", "text"])
    assert meta.revision is not None
    assert meta.n_parameters == sum(each.numel() for _, each in small.encoder.composer.named_parameters())
    assert TASK.get_modalities(PromptType.query) == ["image", "text"]


def test_what_batches_mean_on_each_side(small, tmp_path):
    """Composed queries, the reference alone, the text alone; documents."""
    pictures = [Image.open(draw(tmp_path / f"{number}.png", number)) for number in range(3)]
    both = [{"image": picture, "text": "is red"} for picture in pictures]
    encoder = small.encoder
    for rows, side, wanted in (
        (both, PromptType.query, encoder.encode_query(both)),
        (both, None, encoder.encode_query(both)),
        ([{"image": each} for each in pictures], PromptType.query, encoder.encode_query(pictures)),
        ([{"text": "is red"}], PromptType.query, encoder.encode_query(["is red"])),
        ([{"image": each} for each in pictures], PromptType.document, encoder.encode_document(pictures)),
        ([{"image": each} for each in pictures], None, encoder.encode_document(pictures)),
    ):
        found = small.encode(batches(*rows), prompt_type=side, batch_size=2, show_progress_bar=False, **WHERE)
        assert np.allclose(found, wanted, atol=1e-6)
    queries, documents = encoder.encode_query(both), encoder.encode_document(pictures)
    scores = small.similarity(queries, documents)
    assert torch.equal(scores, encoder.similarity(queries, documents))
    assert torch.allclose(small.similarity_pairwise(queries, documents), scores.diagonal(), atol=1e-6)


def test_a_tasks_instruction_is_not_read(small, tmp_path):
    """MTEB's own loader puts it behind the text."""
    picture = str(draw(tmp_path / "a.png", 1))
    rows = {"id": ["q"], "image": [picture], "text": ["is red"], "instruction": ["Retrieve a picture that fits."]}
    loader = create_dataloader(
        Dataset.from_dict(rows).cast_column("image", ImageColumn()), task_metadata=TASK, prompt_type=PromptType.query
    )
    assert next(iter(loader))["text"] == ["is red Retrieve a picture that fits."]
    found = small.encode(loader, prompt_type=PromptType.query, **WHERE)
    assert np.allclose(found, small.encoder.encode_query([{"image": picture, "text": "is red"}]), atol=1e-6)


def test_settings_of_a_checkpoint_are_refused_for_the_hub():
    with pytest.raises(InputError, match="OWNER/NAME: no such file, and tokenizer is not for the hub"):
        MtebModel("OWNER/NAME", tokenizer="words")


def test_inputs_without_a_meaning_are_refused_with_the_tasks_name(small, tmp_path):
    with pytest.raises(InputError, match="task CIRRIT2IRetrieval: a document: expected an image without a text"):
        small.encode(batches({"text": "is red"}), prompt_type=PromptType.document, **WHERE)
    with pytest.raises(InputError, match="task CIRRIT2IRetrieval: its inputs contain audio, expected 'image'"):
        small.encode(batches({"audio": 1}), prompt_type=PromptType.query, **WHERE)


def test_the_module_is_imported_without_the_library(monkeypatch):
    monkeypatch.delitem(sys.modules, "spn4cir.search.mteb")
    monkeypatch.setitem(sys.modules, "mteb", None)
    import spn4cir.search.mteb

    assert spn4cir.search.mteb.MtebModel is not MtebModel
