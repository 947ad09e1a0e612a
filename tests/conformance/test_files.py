"""Files: published names and our own files load to the same network."""

from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from spn4cir.checkpoints.published import load_composer, save_composer
from spn4cir.composers import COMPOSERS, composer_class
from spn4cir.composers.protocol import Composer
from tests.conformance.builders import Subject, builder, images
from tests.conformance.test_features import TEXTS


def outputs(network: Any) -> tuple[Tensor, ...]:
    """Returns both features of images, queries and scores."""
    with torch.no_grad():
        reference, target = network.encode_image(images(network))
        query = network.compose(reference, TEXTS)
        return reference, target, query, network.score(query, target)


def assert_same(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> None:
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def weights(content: dict[str, Any]) -> dict[str, Tensor]:
    """Returns the one state dict of a published file."""
    (state,) = (value for value in content.values() if isinstance(value, dict))
    return state


def test_members_are_called_as_the_protocol_says(first: Subject) -> None:
    """Equal parameters and defaults: type checkers do not see a class that is imported by name."""
    members = {name: member for name, member in vars(Composer).items() if not name.startswith("_")}
    called = [name for name, member in members.items() if not isinstance(member, property) and name not in dir(Module)]
    assert "from_state" in called
    cls = composer_class(first.family)
    for name in called:
        wanted, found = (
            [(each.name, each.default) for each in signature(getattr(owner, name)).parameters.values()]
            for owner in (Composer, cls)
        )
        assert found == wanted, name


def test_saved_and_loaded_gives_the_same(subject: Subject, tmp_path: Path) -> None:
    """A saved file reproduces the outputs bit for bit, with the family given or detected."""
    network = subject.load()
    save_composer(network, tmp_path / "a.pt", subject.stage, 3)
    assert_same(outputs(subject.load(tmp_path / "a.pt")), outputs(network))
    detected = load_composer(tmp_path / "a.pt", None, builder(subject.family).options)
    assert detected.family == network.family
    assert_same(outputs(detected), outputs(network))


def test_an_export_holds_the_published_names_and_is_stable(subject: Subject, tmp_path: Path) -> None:
    """It has the names of the file that was read, and a second export of the first one has equal bits."""
    network = subject.load()
    first = network.published(subject.stage, 3)
    assert first["epoch"] == 3
    read = builder(subject.family).published(subject.stage)
    assert first.keys() == read.keys() - {"vocabulary"}
    assert weights(first).keys() == weights(read).keys()
    torch.save(first | {key: read[key] for key in read.keys() & {"vocabulary"}}, tmp_path / "a.pt")
    again = subject.load(tmp_path / "a.pt")
    second = again.published(subject.stage, 3)
    assert list(weights(second)) == list(weights(first))
    assert all(torch.equal(weights(second)[name], tensor) for name, tensor in weights(first).items())
    assert_same(outputs(again), outputs(network))


def test_extras_stand_beside_and_change_nothing(subject: Subject, tmp_path: Path) -> None:
    """Further tensors of the original's files, added to an export under the container's prefix."""
    network = subject.load()
    content = network.published(subject.stage, 3)
    prefix = next(
        container.prefix
        for container in COMPOSERS[network.family].containers
        if container.stage == subject.stage and container.key in content
    )
    extras = {prefix + name: tensor for name, tensor in network.extras(subject.stage).items()}
    weights(content).update({name: tensor for name, tensor in extras.items() if name not in weights(content)})
    vocabulary = {} if network.vocabulary is None else {"vocabulary": list(network.vocabulary)}
    torch.save(content | vocabulary, tmp_path / "a.pt")
    assert_same(outputs(subject.load(tmp_path / "a.pt")), outputs(network))


def test_a_network_tells_its_sizes(subject: Subject) -> None:
    """Reported sizes match the input and a target; each tower in `parts` has parameters."""
    network = subject.load()
    network.train_stage(2)
    if (sizes := network.sizes()) is not None:
        assert sizes.image_size == network.preprocess.size
        assert sizes.embedding == tuple(outputs(network)[1].shape[1:])
    names = [name for name, _ in network.named_parameters()]
    assert all(any(name.startswith(begins) for name in names) for begins in network.parts.values())


def test_an_export_is_a_copy(subject: Subject) -> None:
    """Further training does not change the export."""
    network = subject.load()
    state = weights(network.published(subject.stage, 3))
    kept = {name: tensor.clone() for name, tensor in state.items()}
    for parameter in network.parameters():
        parameter.data += 1
    assert all(torch.equal(state[name], tensor) for name, tensor in kept.items())
    assert all(tensor.device.type == "cpu" and not tensor.requires_grad for tensor in state.values())


def test_stage_2_begins_where_the_file_ends(subject: Subject, tmp_path: Path) -> None:
    """Making the copies that stage 2 trains does not change the output; existing copies are kept, and all are saved."""
    network = subject.load()
    before = outputs(network)
    network.train_stage(2)
    assert_same(outputs(network), before)
    save_composer(network, tmp_path / "a.pt", 2, 3)
    assert_same(outputs(subject.load(tmp_path / "a.pt")), before)
