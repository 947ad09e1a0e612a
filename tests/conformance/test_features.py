"""Features, queries and scores of every family, for any division into batches."""

import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spn4cir.evaluation.hard_negatives import image_similarity
from spn4cir.losses import INFO_NCE, Contrast
from tests.conformance.builders import Subject, images
from tests.helpers.contrasts import naive

TEXTS = ["is red", "", "the longer floral dress with darker sleeves", "green and lighter"]
# Cosine of a random tiny network in bfloat16; a trained one of full size is closer to 1.
AUTOCAST_COSINE = 0.99
META = torch.device("meta")


def features(subject: Subject, seed: int = 0) -> Any:
    with torch.no_grad():
        return subject.network.encode_image(images(subject.network, seed=seed))


def queries(subject: Subject) -> Tensor:
    with torch.no_grad():
        return subject.network.compose(features(subject).reference, TEXTS)


def assert_close(first: Tensor, second: Tensor) -> None:
    """Asserts equality up to the order of sums: 1e-5 of the largest value."""
    torch.testing.assert_close(first, second, rtol=0, atol=1e-5 * float(second.abs().max()))


def test_shapes_and_unit_norms(subject: Subject) -> None:
    """One row per image; queries and targets have one width, unit norm (each token of a target) and float32."""
    reference, target = features(subject)
    query = queries(subject)
    assert len(reference) == len(target) == 4
    assert query.shape == (4, target.shape[-1])
    for unit in (target, query):
        assert unit.dtype == torch.float32
        torch.testing.assert_close(unit.norm(dim=-1), torch.ones(unit.shape[:-1]), rtol=0, atol=1e-5)
    assert bool(reference.isfinite().all())


def test_a_pickled_copy_computes_the_same_features(subject: Subject) -> None:
    """The workers of a cluster get networks by pickle."""
    pixels = images(subject.network)
    with torch.no_grad():
        here, there = (
            each.encode_image(pixels) for each in (subject.network, pickle.loads(pickle.dumps(subject.network)))
        )
    assert torch.equal(here.reference, there.reference)
    assert torch.equal(here.target, there.target)


def test_scores_are_cosines(subject: Subject) -> None:
    scores = subject.network.score(queries(subject), features(subject, seed=1).target)
    assert scores.shape == (4, 4)
    assert float(scores.abs().max()) <= 1 + 1e-5
    assert float(scores.std()) > 0


def test_both_the_image_and_the_text_decide_the_query(subject: Subject) -> None:
    """Otherwise the tests of this file would cover half of a network."""
    reference = features(subject).reference
    with torch.no_grad():
        by_text = subject.network.compose(reference[[0] * 4], TEXTS)
        by_image = subject.network.compose(reference, TEXTS[:1] * 4)
    for several in (by_text, by_image):
        assert float(torch.pdist(several).min()) > 1e-3


def test_a_text_alone_and_a_reference_alone_are_queries(subject: Subject) -> None:
    """Reference features of zeros, or the empty text, as the shortcuts of a benchmark are measured."""
    reference = features(subject).reference
    with torch.no_grad():
        by_text = subject.network.compose(torch.zeros_like(reference[[0] * 2]), ["is red", "is longer"])
        by_image = subject.network.compose(reference, [""] * len(reference))
    for alone in (by_text, by_image):
        torch.testing.assert_close(alone.norm(dim=-1), torch.ones(len(alone)), rtol=0, atol=1e-5)
    assert float((by_text[0] - by_text[1]).norm()) > 1e-3


def test_an_image_is_most_like_itself(subject: Subject) -> None:
    """The similarity that finds hard negatives is highest for the image itself."""
    target = features(subject).target
    alike = image_similarity(subject.network, target, target)
    torch.testing.assert_close(alike.diagonal(), torch.ones(len(target)), rtol=0, atol=1e-5)
    assert float((alike - alike.diagonal()[:, None]).max()) <= 1e-5


def test_images_are_encoded_in_one_backbone_pass(subject: Subject) -> None:
    """The modules that receive the pixels, and all blocks of a list, run once over the whole batch."""
    network = subject.load()
    calls: list[nn.Module] = []
    blocks = [part for parent in network.modules() for part in parent.children() if isinstance(parent, nn.ModuleList)]
    leaves = [part for part in network.modules() if not list(part.children()) and list(part.parameters())]
    for part in dict.fromkeys((*blocks, *leaves)):
        part.register_forward_pre_hook(lambda module, inputs: calls.append(module))
    with torch.no_grad():
        network.encode_image(images(network))
    assert calls, "no module ran: count the passes some other way"
    seen = next(part for part in calls if part in leaves)
    assert {calls.count(part) for part in (seen, *blocks) if part in calls} == {1}


def test_a_permuted_batch_gives_the_permuted_result(subject: Subject) -> None:
    order = [2, 0, 3, 1]
    pixels = images(subject.network)
    found, query = features(subject), queries(subject)
    with torch.no_grad():
        moved = subject.network.encode_image(pixels[order])
        moved_query = subject.network.compose(found.reference[order], [TEXTS[i] for i in order])
    for one, other in zip((*found, query), (*moved, moved_query), strict=True):
        assert_close(other, one[order])


@pytest.mark.parametrize("size", [1, 2])
def test_smaller_batches_give_the_same(subject: Subject, size: int) -> None:
    """One by one and in halves, with texts of different lengths."""
    found, pixels = features(subject), images(subject.network)
    with torch.no_grad():
        parts = [subject.network.encode_image(part) for part in pixels.split(size)]
        composed = [
            subject.network.compose(found.reference[start : start + size], TEXTS[start : start + size])
            for start in range(0, 4, size)
        ]
    for one, other in zip(found, zip(*parts, strict=True), strict=True):
        assert_close(torch.cat(other), one)
    assert_close(torch.cat(composed), queries(subject))


def test_the_same_twice(subject: Subject) -> None:
    """Bit for bit: nothing is random in evaluation mode."""
    assert not any(module.training for module in subject.network.modules())
    for one, other in zip(features(subject), features(subject), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(queries(subject), queries(subject))


def test_scores_of_blocks_are_those_of_the_whole(subject: Subject) -> None:
    query, targets = queries(subject), torch.cat([features(subject, seed).target for seed in range(3)])
    whole = subject.network.score(query, targets)
    blocks = [
        torch.cat([subject.network.score(rows, part) for part in targets.split(5)], dim=1) for rows in query.split(3)
    ]
    assert_close(torch.cat(blocks), whole)


@pytest.mark.parametrize(
    "contrast",
    [
        INFO_NCE,
        Contrast(weights=torch.tensor([1.0, 0.3, 0.3, 1.0])),
        Contrast(robust=torch.tensor([False, True, True, False])),
        Contrast(hardness=0.5),
        Contrast(excluded=torch.tensor([[0, 2, 2], [1, 1, 7]])),
    ],
    ids=["info_nce", "weights", "robust", "hardness", "excluded"],
)
def test_contrast_is_the_loss_over_the_scores(subject: Subject, contrast: Contrast) -> None:
    """Compares value and gradients with those of autograd over the scores of this family."""
    labels = torch.tensor([5, 0, 3, 3])
    found = []
    for own in (True, False):
        query = queries(subject).requires_grad_()
        targets = torch.cat([features(subject, seed).target for seed in range(2)]).requires_grad_()
        tau = torch.tensor(0.2, requires_grad=True)
        if own:
            loss = subject.network.contrast(query, targets, labels, tau, contrast)
        else:
            loss = naive(subject.network.score(query, targets), labels, tau, contrast)
        found.append((loss.detach(), *torch.autograd.grad(loss, (query, targets, tau))))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


def test_autocast_stays_close(subject: Subject) -> None:
    """bfloat16 on the CPU: targets and queries have nearly the directions of float32."""
    network = subject.network
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = network.encode_image(images(network))
        query = network.compose(half.reference, TEXTS)
    for one, other in ((half.target, features(subject).target), (query, queries(subject))):
        assert float(F.cosine_similarity(one.float(), other, dim=-1).min()) >= AUTOCAST_COSINE


def test_every_tensor_moves_with_the_network(subject: Subject) -> None:
    """On the meta device a tensor that is on another device does not fit the others."""
    network = subject.load().to(META)
    left = [
        f"{type(module).__name__}.{name}"
        for module in network.modules()
        for name, value in vars(module).items()
        if isinstance(value, Tensor) and value.device != META
    ]
    assert not left, f"tensors that are neither parameter nor buffer: {left}"
    assert [tensor.device for tensor in network.state_dict().values() if tensor.device != META] == []
    for there, here in zip(network.encode_image(images(network).to(META)), features(subject), strict=True):
        assert there.device == META
        assert there.shape == here.shape


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same(subject: Subject) -> None:
    """Texts are moved to the device of the references, which may be in half precision."""
    device = torch.device("cuda")
    network = subject.load().to(device)
    with torch.no_grad():
        found = network.encode_image(images(network).to(device))
        query = network.compose(found.reference, TEXTS)
    assert network.score(query, found.target).device.type == "cuda"
    for one, other in ((found.target, features(subject).target), (query, queries(subject))):
        assert float(F.cosine_similarity(one.float().cpu(), other, dim=-1).min()) >= AUTOCAST_COSINE


def test_longer_texts_count_more_and_are_cut(subject: Subject) -> None:
    """Words beyond the limit change the count, but not the query."""
    network = subject.network
    assert network.max_tokens > 0
    counts = [network.count_tokens(text) for text in ("", "red", "red red", "red red red")]
    assert counts == sorted(set(counts))
    long = "red " * (network.max_tokens + 1)
    assert network.count_tokens(long) > network.max_tokens
    reference = features(subject).reference[[0, 0]]
    with torch.no_grad():
        query = network.compose(reference, [long, f"{long}blue"])
    assert torch.equal(query[0], query[1])
