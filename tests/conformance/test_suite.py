"""The suite itself: its message for a family without a tiny network, and the faults that it finds."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from spn4cir.checkpoints.published import read_checkpoint
from spn4cir.composers.protocol import ImageFeatures, Trained
from spn4cir.losses import INFO_NCE
from tests.conformance import test_features, test_files, test_training
from tests.conformance.builders import Subject, builder
from tests.conformance.toy import ToyComposer


def test_a_registered_family_without_a_builder_is_told_what_to_add() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"'new' is registered .* add it to BUILDERS in tests/conformance/"):
        builder("new")


class TwoPasses(ToyComposer):
    def encode_image(self, images: Tensor) -> ImageFeatures:
        return ImageFeatures(super().encode_image(images).reference, super().encode_image(images).target)


class SeesItsNeighbours(ToyComposer):
    def encode_image(self, images: Tensor) -> ImageFeatures:
        return super().encode_image(images - 0.1 * images.mean(dim=0))


class CountsRows(ToyComposer):
    def compose(self, reference: Tensor, texts: Sequence[str]) -> Tensor:
        return super().compose(reference + torch.arange(len(texts))[:, None], texts)


class Draws(ToyComposer):
    def encode_image(self, images: Tensor) -> ImageFeatures:
        return super().encode_image(images + 0.01 * torch.randn_like(images))


class IsNotNormalised(ToyComposer):
    def encode_image(self, images: Tensor) -> ImageFeatures:
        return ImageFeatures(*[super().encode_image(images).reference] * 2)


class IsDeaf(ToyComposer):
    def compose(self, reference: Tensor, texts: Sequence[str]) -> Tensor:
        return super().compose(reference, [""] * len(texts))


class CutsNothing(ToyComposer):
    def compose(self, reference: Tensor, texts: Sequence[str]) -> Tensor:
        further = super().compose(reference, [" ".join(text.split()[ToyComposer.max_tokens :]) for text in texts])
        return F.normalize(super().compose(reference, texts) + further, dim=-1)


class ScoresByRank(ToyComposer):
    def score(self, queries: Tensor, targets: Tensor) -> Tensor:
        return super().score(queries, targets - targets.mean(dim=0))


class ContrastsOtherwise(ToyComposer):
    def contrast(self, queries: Tensor, targets: Tensor, labels: Tensor, temperature: Any, *contrast: Any) -> Tensor:
        return super().contrast(queries, targets, labels, 2 * temperature, *contrast)


class IgnoresTheContrast(ToyComposer):
    def contrast(self, queries: Tensor, targets: Tensor, labels: Tensor, temperature: Any, *contrast: Any) -> Tensor:
        return super().contrast(queries, targets, labels, temperature)


class LeavesATensorBehind(ToyComposer):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.ones(3, 1, 1)


class IsAnotherInHalf(ToyComposer):
    def encode_image(self, images: Tensor) -> ImageFeatures:
        return super().encode_image(images.flip(1) if torch.is_autocast_enabled("cpu") else images)


class TrainsTheImageSide(ToyComposer):
    def train_stage(self, stage: int) -> Trained:
        return super().train_stage(1)


class FreezesTooLittle(ToyComposer):
    def frozen_tensors(self) -> Iterator[tuple[str, Tensor]]:
        yield "bias", self.colour.bias


class TrainsWhatNoLossReaches(ToyComposer):
    def encode_image(self, images: Tensor) -> ImageFeatures:
        return ImageFeatures(*(feature.detach() for feature in super().encode_image(images)))


class LearnsByItself(ToyComposer):
    def compose(self, reference: Tensor, texts: Sequence[str]) -> Tensor:
        if self.training:
            self.colour.weight.data += 0.1
        return super().compose(reference, texts)


class BeginsAnew(ToyComposer):
    def train_stage(self, stage: int) -> Trained:
        self.words.reset_parameters()
        return super().train_stage(stage)


class ExportsItsOwnTensors(ToyComposer):
    def published(self, stage: int, epoch: int) -> dict[str, Any]:
        return {"epoch": epoch, f"toy_stage{stage}": self.state_dict()}


class ExportsTooLittle(ToyComposer):
    def published(self, stage: int, epoch: int) -> dict[str, Any]:
        content = super().published(stage, epoch)
        del content[f"toy_stage{stage}"]["temperature"]
        return content


@dataclass(frozen=True)
class Faulty(Subject):
    """Loads the toy's file as a class with a fault."""

    composer: type[ToyComposer]

    def load(self, path: Path | None = None) -> Any:
        checkpoint = read_checkpoint(path or self.published)
        return self.composer.from_state(checkpoint.state, checkpoint.stage, "toy")


Check = Callable[[Subject, Path], None]
# The test that finds each fault.
FAULTS: dict[type[ToyComposer], Check] = {
    TwoPasses: lambda toy, folder: test_features.test_images_are_encoded_in_one_backbone_pass(toy),
    SeesItsNeighbours: lambda toy, folder: test_features.test_smaller_batches_give_the_same(toy, 2),
    CountsRows: lambda toy, folder: test_features.test_a_permuted_batch_gives_the_permuted_result(toy),
    Draws: lambda toy, folder: test_features.test_the_same_twice(toy),
    IsNotNormalised: lambda toy, folder: test_features.test_shapes_and_unit_norms(toy),
    IsDeaf: lambda toy, folder: test_features.test_both_the_image_and_the_text_decide_the_query(toy),
    CutsNothing: lambda toy, folder: test_features.test_longer_texts_count_more_and_are_cut(toy),
    ScoresByRank: lambda toy, folder: test_features.test_scores_of_blocks_are_those_of_the_whole(toy),
    ContrastsOtherwise: lambda toy, folder: test_features.test_contrast_is_the_loss_over_the_scores(toy, INFO_NCE),
    IgnoresTheContrast: lambda toy, folder: test_training.test_each_setting_changes_the_loss(toy, folder, "robust", {}),
    LeavesATensorBehind: lambda toy, folder: test_features.test_every_tensor_moves_with_the_network(toy),
    IsAnotherInHalf: lambda toy, folder: test_features.test_autocast_stays_close(toy),
    TrainsTheImageSide: lambda toy, folder: test_training.test_stage_2_moves_what_it_says_and_no_image_feature(
        toy, folder, False, {}
    ),
    FreezesTooLittle: lambda toy, folder: test_training.test_the_frozen_tensors_decide_the_features(toy),
    LearnsByItself: lambda toy, folder: test_training.test_stage_2_moves_what_it_says_and_no_image_feature(
        toy, folder, False, {}
    ),
    TrainsWhatNoLossReaches: lambda toy, folder: test_training.test_stage_1_moves_what_it_says(toy),
    BeginsAnew: lambda toy, folder: test_files.test_stage_2_begins_where_the_file_ends(toy, folder),
    ExportsItsOwnTensors: lambda toy, folder: test_files.test_an_export_is_a_copy(toy),
    ExportsTooLittle: lambda toy, folder: test_files.test_an_export_holds_the_published_names_and_is_stable(
        toy, folder
    ),
}


@pytest.mark.parametrize("composer", FAULTS, ids=lambda composer: composer.__name__)
def test_a_fault_is_seen(composer: type[ToyComposer], files: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        FAULTS[composer](Faulty("toy", 1, files, composer), tmp_path)
