"""Both protocols on cases whose ranks are counted by hand, with a stub instead of a network."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import spn4cir.composers.encoding
from spn4cir.composers.encoding import EncodedGallery, encode_gallery
from spn4cir.config.params import Validate
from spn4cir.datasets.cirr import Cirr
from spn4cir.datasets.fashioniq import FashionIQ
from spn4cir.errors import InputError
from spn4cir.evaluation.evaluate import (
    Evaluation,
    compose_queries,
    encode_splits,
    evaluate,
    subset_columns,
)
from spn4cir.evaluation.metrics_file import metrics_file
from spn4cir.evaluation.query_table import queries_entry, write_contact_sheet, write_queries, write_recalls
from spn4cir.evaluation.ranking import TIE_RULE
from spn4cir.evaluation.stored_gallery import union_gallery
from spn4cir.evaluation.validate import validate_both
from spn4cir.types import EvaluationSplit, Gallery, Triplet
from tests.conftest import CPU
from tests.helpers.layouts import draw, write_cirr, write_fashioniq
from tests.helpers.stub import StubComposer

PROTOCOL = Validate(remove_reference=True, capitalise=False, batch_size=4, sheet_queries=3)


@dataclass(frozen=True)
class Case:
    """A gallery on a circle: image i is at angle i degrees, so similarity falls with the difference of numbers.

    A query with the text `+n` asks for the image n degrees on from its reference.
    """

    images: int

    def gallery(self, prefix: str = "i") -> Gallery:
        names = tuple(f"{prefix}{i:03d}" for i in range(self.images))
        return Gallery(names, tuple(Path(name) for name in names))

    def encoded(self, *galleries: Gallery) -> EncodedGallery:
        names = tuple(name for gallery in galleries for name in gallery.names)
        angle = torch.tensor([float(name[-3:]) for name in names]).deg2rad()
        features = torch.stack([angle.cos(), angle.sin()], dim=1)
        return EncodedGallery(Gallery(names, tuple(map(Path, names))), features, features * 5, torch.arange(len(names)))


class Turn(StubComposer):
    """Turns the reference by the degrees in the text, and records the texts."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def compose(self, reference: Tensor, texts: Any) -> Tensor:
        self.texts += texts
        turn = torch.tensor([float(text.split()[0]) for text in texts]).deg2rad()
        x, y = F.normalize(reference, dim=1).unbind(1)
        return torch.stack([x * turn.cos() - y * turn.sin(), x * turn.sin() + y * turn.cos()], dim=1)


def fashioniq(category: str, gallery: Gallery, queries: list[tuple[int, int, float]]) -> EvaluationSplit:
    """Queries of (reference, target, turn)."""
    triplets = tuple(
        Triplet(gallery.names[a], (f"{turn}", "x"), gallery.names[b], number, category)
        for number, (a, b, turn) in enumerate(queries)
    )
    used = frozenset(name for t in triplets for name in (t.reference_name, str(t.target_name)))
    return EvaluationSplit(category, triplets, gallery, {"val_triplets": gallery.restrict(used)}, 2, 1)


def scored(layout: Any, splits: list[EvaluationSplit], protocol: Validate = PROTOCOL) -> Evaluation:
    encoded = Case(0).encoded(*dict.fromkeys(split.gallery for split in splits))
    return evaluate(Turn(), layout, splits, encoded, protocol, CPU)


def test_fashioniq_of_known_ranks(tmp_path: Path) -> None:
    """Galleries of 170 degrees. A query at 20.1 finds 20, 21, 19, 22, 18, ...; its target at 20 + d ranks 2d - 1 or 2d.

    dress: ranks 0 (found), 9 (just in 10), 10 (just out); shirt: 49 and 50; toptee: 0.
    """
    gallery = {name: Case(170).gallery(name) for name in ("dress", "shirt", "toptee")}
    splits = [
        fashioniq("dress", gallery["dress"], [(100, 20, -79.9), (100, 25, -79.9), (100, 15, -79.9)]),
        fashioniq("shirt", gallery["shirt"], [(169, 65, -128.9), (169, 15, -128.9)]),
        fashioniq("toptee", gallery["toptee"], [(100, 20, -79.9)]),
    ]
    result = scored(FashionIQ(tmp_path, "error"), splits)
    assert [ranked.ranking.rank.tolist() for ranked in result.splits] == [[0, 9, 10], [49, 50], [0]]
    assert result.scores == pytest.approx(
        {
            "dress_recall_at10": 200 / 3,
            "dress_recall_at50": 100.0,
            "shirt_recall_at10": 0.0,
            "shirt_recall_at50": 50.0,
            "toptee_recall_at10": 100.0,
            "toptee_recall_at50": 100.0,
            "average_recall_at10": 500 / 9,
            "average_recall_at50": 250 / 3,
            "average_recall": (500 / 9 + 250 / 3) / 2,
        }
    )
    assert result.splits[0].top_names(1)[:4] == ["dress020", "dress021", "dress019", "dress022"]
    # Over the images of triplets alone (dress: 15, 20, 25, 100) each target comes among the first three.
    assert result.alternatives["val_triplets"]["dress_recall_at10"] == 100.0
    assert result.alternatives["val_triplets"]["shirt_recall_at50"] == 100.0


@pytest.mark.parametrize(("remove", "ranks"), [(True, [0, 1]), (False, [1, 1])])
def test_the_reference_is_removed_or_kept(tmp_path: Path, remove: bool, ranks: list[int]) -> None:
    """A query near its reference at 30: the target at 31 is second, or first if 30 is removed."""
    gallery = Case(60).gallery()
    splits = [fashioniq(c, gallery, [(30, 31, 0.1), (50, 31, -19.9)]) for c in ("dress", "shirt", "toptee")]
    result = scored(FashionIQ(tmp_path, "error"), splits, PROTOCOL.model_copy(update={"remove_reference": remove}))
    assert result.splits[0].ranking.rank.tolist() == ranks
    assert ("i030" in result.splits[0].top_names(0)) is not remove
    assert len(result.splits[0].top_names(0)) == 51


def cirr(gallery: Gallery, queries: list[tuple[int, int, float, list[int]]]) -> EvaluationSplit:
    triplets = tuple(
        Triplet(
            gallery.names[a], (f"{turn}",), gallery.names[b], 100 + n, subset_names=tuple(gallery.names[i] for i in s)
        )
        for n, (a, b, turn, s) in enumerate(queries)
    )
    return EvaluationSplit("val", triplets, gallery, {})


def test_cirr_of_known_ranks(tmp_path: Path) -> None:
    """Ranks are 0, 4, 5 and 45 (all of 0 to 44 are nearer) in the gallery, and 0, 1, 2, 0 in the subset."""
    gallery = Case(120).gallery()
    queries = [
        (100, 20, -79.9, [20, 100, 60, 61, 62, 63]),
        (100, 18, -79.9, [19, 18, 100, 61, 62, 63]),
        (100, 23, -79.9, [20, 21, 23, 100, 62, 63]),
        (100, 45, -79.9, [45, 100, 60, 61, 62, 63]),
    ]
    result = scored(Cirr(tmp_path, "error"), [cirr(gallery, queries)])
    (ranked,) = result.splits
    assert ranked.ranking.rank.tolist() == [0, 4, 5, 45]
    assert ranked.ranking.subset_rank.tolist() == [0, 1, 2, 0]
    assert result.scores == {
        "recall_at1": 25.0,
        "recall_at5": 50.0,
        "recall_at10": 75.0,
        "recall_at50": 100.0,
        "recall_subset_at1": 50.0,
        "recall_subset_at2": 75.0,
        "recall_subset_at3": 100.0,
        "mean_recall5_subset1": 50.0,
    }
    assert result.alternatives == {}


def test_equal_candidates_count_against_the_target_whatever_their_order(tmp_path: Path) -> None:
    """A reversed gallery gives equal scores, also with equal images."""
    names = ("a010", "b010", "c010", "d090")
    for order in (names, names[::-1]):
        gallery = Gallery(order, tuple(map(Path, order)))
        triplet = Triplet("d090", ("-80",), "b010", 1, subset_names=names)
        result = scored(Cirr(tmp_path, "error"), [EvaluationSplit("val", (triplet,), gallery, {})])
        assert result.splits[0].ranking.rank.tolist() == [2]
        assert result.splits[0].top_names(0) == ["a010", "b010", "c010"]


def test_queries_read_the_family_text(tmp_path: Path) -> None:
    """Two captions are stripped and joined, and capitalised if the family does so."""
    gallery = Case(20).gallery()
    triplet = Triplet("i001", (" 3 is Red.", "longer?, "), "i002", 0, "dress")
    splits = [EvaluationSplit("dress", (triplet,), gallery, {})]
    for capitalise, text in ((False, "3 is Red and longer"), (True, "3 is red and longer")):
        composer, settings = Turn(), PROTOCOL.model_copy(update={"capitalise": capitalise})
        evaluate(composer, OneSplit(tmp_path, "error"), splits, Case(0).encoded(gallery), settings, CPU)
        assert composer.texts == [text]


class OneSplit(Cirr):
    """CIRR without recalls within a subset."""

    protocol = replace(Cirr.protocol, subset_ks=())

    def summarise(self, scores: Any) -> Any:
        return next(iter(scores.values()))


def test_subsets_leave_out_the_reference_and_pad() -> None:
    triplets = [
        Triplet("a", ("x",), "b", subset_names=("a", "b", "c")),
        Triplet("b", ("x",), "c", subset_names=("c", "gone", "b")),
        Triplet("c", ("x",), "a"),
    ]
    columns = subset_columns(triplets, {"a": 0, "b": 1, "c": 2})
    assert columns.tolist() == [[1, 2], [2, -1], [-1, -1]]
    assert subset_columns([triplets[2]], {"a": 0}).shape == (1, 0)


def test_a_network_of_broken_weights_is_an_input_error() -> None:
    gallery = Case(20).gallery()
    encoded = Case(0).encoded(gallery)
    encoded.reference[3] = torch.nan
    with pytest.raises(InputError, match="features are not finite"):
        compose_queries(Turn(), [Triplet("i003", ("1",), "i004")], ["1"], encoded, 4, CPU)


def test_queries_that_the_gpu_cannot_hold_name_the_setting() -> None:
    class Full(Turn):
        def compose(self, reference: Tensor, texts: Sequence[str]) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory.\nGPU 0 has")

    encoded = Case(0).encoded(Case(20).gallery())
    with pytest.raises(InputError, match=r"^compose queries: a batch does not fit .* lower batch_size \(4\)"):
        compose_queries(Full(), [Triplet("i003", ("1",), "i004")], ["1"], encoded, 4, CPU)


def test_no_queries_are_an_input_error(tmp_path: Path) -> None:
    split = EvaluationSplit("val", (), Case(5).gallery(), {})
    with pytest.raises(InputError, match="split 'val': no query is left"):
        scored(Cirr(tmp_path, "error"), [split])


def test_blocks_of_queries_equal_the_whole() -> None:
    gallery = Case(20).gallery()
    triplets = [Triplet(name, (f"{i}",), name) for i, name in enumerate(gallery.names)]
    texts = [triplet.captions[0] for triplet in triplets]
    whole, parts = (compose_queries(Turn(), triplets, texts, Case(0).encoded(gallery), n, CPU) for n in (99, 3))
    assert torch.equal(whole, parts)


def test_images_of_several_categories_are_encoded_once(tmp_path: Path, stub: StubComposer) -> None:
    """A name in two galleries is one image."""
    layout = FashionIQ(write_fashioniq(tmp_path, images=3), "error")
    splits = list(layout.evaluation_splits())
    shared = splits[0].gallery
    gallery = splits[1].gallery
    splits[1] = replace(splits[1], gallery=Gallery(gallery.names + shared.names, (*gallery.paths, *shared.paths)))
    assert len(union_gallery(splits)) == 9
    encoded = encode_splits(stub, splits, PROTOCOL, 0, CPU)
    assert stub.encoded == len(encoded.gallery) == 9
    evaluate(stub, layout, splits, encoded, PROTOCOL, CPU)
    assert stub.encoded == 9


@pytest.mark.parametrize("limit", [0, 1 << 30])
def test_only_the_features_of_references_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """Scores equal those of a gallery that keeps all reference features, in memory or in a file."""
    layout = Cirr(write_cirr(tmp_path), "error")
    (split,) = layout.evaluation_splits()
    splits = [replace(split, triplets=split.triplets[:5])]
    gallery = union_gallery(splits)
    whole = encode_gallery(StubComposer(), gallery, range(len(gallery)), 5, 0, CPU, "x")
    monkeypatch.setattr(spn4cir.composers.encoding, "_IN_MEMORY", limit)
    stub = StubComposer()
    encoded = encode_splits(stub, splits, PROTOCOL, 0, CPU)
    assert stub.encoded == len(gallery) == 12
    references = {triplet.reference_name for split in splits for triplet in split.triplets}
    assert {gallery.names[row] for row in encoded.kept.tolist()} == references
    assert len(encoded.reference) == len(references) < len(gallery)
    first, second = (evaluate(stub, layout, splits, images, PROTOCOL, CPU) for images in (whole, encoded))
    assert first.scores == second.scores
    assert torch.equal(first.splits[0].ranking.top, second.splits[0].ranking.top)


def test_queries_that_will_be_cut_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Long texts are reported once for each split, however often it is scored."""
    gallery = Case(20).gallery()
    triplets = tuple(Triplet("i001", ("3 " + "red " * words,), "i002") for words in (1, 74, 75, 90))
    splits = [EvaluationSplit("of long texts", triplets, gallery, {})]
    for _ in range(2):
        evaluate(Turn(), OneSplit(tmp_path, "error"), splits, Case(0).encoded(gallery), PROTOCOL, CPU)
    said = capsys.readouterr().err
    assert said.count("split 'of long texts': 2 of 4 texts have more than 77 tokens (the longest 93)") == 1


def test_a_metrics_file_says_how_it_was_scored(tmp_path: Path, stub: StubComposer) -> None:
    """The file contains flat scores first, then protocol, counts, alternatives and a remark, all as plain JSON."""
    layout = FashionIQ(write_fashioniq(tmp_path, images=3), "skip")
    (tmp_path / "images" / "shirt-val-0.png").unlink()
    splits = layout.evaluation_splits()
    encoded = encode_splits(stub, splits, PROTOCOL, 0, CPU)
    content = metrics_file(evaluate(stub, layout, splits, encoded, PROTOCOL, CPU), layout, PROTOCOL, stub)
    assert list(content)[-4:] == ["protocol", "counts", "alternatives", "too_few_queries"]
    assert len(content) == 9 + 4
    assert all(0 <= content[key] <= 100 for key in list(content)[:9])
    assert content["protocol"] == {
        "family": "stub",
        "gallery": "all images of the split files",
        "queries": "annotated",
        "reference": "removed from the ranking",
        "captions": "first and second caption, joined by ' and '",
        "text": "letters as written",
        "ties": TIE_RULE,
        "preprocess": stub.preprocess.describe(),
    }
    assert content["counts"] == {
        "queries": {"dress": 3, "shirt": 1, "toptee": 3},
        "left_out": {"dress": 0, "shirt": 2, "toptee": 0},
        "empty_texts": {"dress": 0, "shirt": 0, "toptee": 0},
        "gallery": {"dress": 3, "shirt": 2, "toptee": 3},
        "missing_images": {"dress": 0, "shirt": 1, "toptee": 0},
        "alternatives": {"dress": {"val_triplets": 3}, "shirt": {"val_triplets": 2}, "toptee": {"val_triplets": 3}},
    }
    assert content["alternatives"].keys() == {"val_triplets"}
    assert content["alternatives"]["val_triplets"].keys() == set(list(content)[:9])
    json.dumps(content)


@pytest.mark.parametrize("same", [True, False])
def test_both_stages_share_one_encoding_of_the_galleries(tmp_path: Path, same: bool) -> None:
    """Galleries are encoded once if the image side is equal; other weights encode them again."""
    layout = Cirr(write_cirr(tmp_path), "error")
    before, after = StubComposer(), StubComposer()
    after.text_side.weight.data.neg_()
    if not same:
        after.image_side.weight.data.neg_()
    second, first, *_ = validate_both(after, before, layout, PROTOCOL, 0, CPU)
    assert (after.encoded, before.encoded) == ((12, 0) if same else (12, 12))
    alone, *_ = validate_both(before, before, layout, PROTOCOL, 0, CPU)
    assert first.scores == alone.scores
    assert first.scores != second.scores


def test_outcomes_query_by_query(tmp_path: Path) -> None:
    """Ranks count from 1; each query has 50 names without the removed reference, and the answers of both stages."""
    gallery = Case(120).gallery()
    for name in gallery.names:
        draw(tmp_path / f"{name}.png", int(name[1:]), (16, 16))
    gallery = Gallery(gallery.names, tuple(tmp_path / f"{name}.png" for name in gallery.names))
    split = cirr(gallery, [(100, 20, -79.9, [20, 100]), (18, 45, 2.1, [45, 18])])
    layout = Cirr(tmp_path, "error")
    ranked = scored(layout, [split]).splits
    write_queries(layout, ranked, tmp_path / "queries.parquet", before=ranked)
    first, second = pq.read_table(tmp_path / "queries.parquet").to_pylist()
    assert {key: first[key] for key in first if not key.endswith("top")} == {
        "split": "val",
        "query": 100,
        "reference": "i100",
        "text": "-79.9",
        "target": "i020",
        "rank": 1,
        "subset_rank": 1,
        "stage1_rank": 1,
        "stage1_subset_rank": 1,
    }
    assert (second["rank"], second["stage1_rank"]) == (45, 45)
    assert (second["top"], second["subset_rank"]) == (second["stage1_top"], second["stage1_subset_rank"])
    assert (len(first["top"]), len(second["top"])) == (50, 50)
    assert "i018" not in second["top"]
    assert second["top"][:3] == ["i020", "i021", "i019"]
    write_contact_sheet(ranked, tmp_path / "sheet.png", 8, "title")
    sheet = Image.open(tmp_path / "sheet.png").convert("RGB")
    green = [pixel for pixel in sheet.getcolors(1 << 24) if pixel[1] == (10, 125, 51)]
    assert green
    assert green[0][0] > 2000, "the found target has no frame"


def test_a_query_without_a_subset_has_no_subset_rank(tmp_path: Path) -> None:
    split = replace(cirr(Case(20).gallery(), [(1, 2, 1.0, [1, 2])]), name="dress")
    bare = replace(split, triplets=tuple(replace(triplet, subset_names=()) for triplet in split.triplets))
    layout = OneSplit(tmp_path, "error")
    write_queries(layout, scored(layout, [bare]).splits, tmp_path / "queries.parquet")
    table = pq.read_table(tmp_path / "queries.parquet")
    assert table["subset_rank"].to_pylist() == [None]
    assert str(table.schema.field("subset_rank").type) == "int64"


def test_bars_and_the_place_of_the_queries(tmp_path: Path) -> None:
    write_recalls({"recall_at1": 25.0, "average": 31.25}, tmp_path / "recalls.tsv")
    assert (tmp_path / "recalls.tsv").read_text() == "metric\tpercent\nrecall_at1\t25.0\naverage\t31.25\n"
    entry = queries_entry(Path("data/validate/d/f/q.parquet"), Path("metrics/d/f.json"))
    assert entry == {"queries": "../../data/validate/d/f/q.parquet"}
