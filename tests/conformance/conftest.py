"""Fixtures: every registered family and the toy family, at both stages."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from spn4cir.composers import COMPOSERS, Container, FamilyEntry
from tests.conformance.builders import Subject

TOY = FamilyEntry("tests.conformance.toy:ToyComposer", (Container(1, "toy_stage1"), Container(2, "toy_stage2")))
FAMILIES = tuple(dict.fromkeys((*COMPOSERS, "toy")))


@pytest.fixture(scope="package", autouse=True)
def _toy_is_registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(COMPOSERS, "toy", TOY)
        yield


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder to which the tiny networks are written, once."""
    return tmp_path_factory.mktemp("families")


@pytest.fixture(scope="module", params=FAMILIES)
def first(request: pytest.FixtureRequest, files: Path) -> Subject:
    """A family's network of stage 1."""
    return Subject(request.param, 1, files)


@pytest.fixture(
    scope="module", params=[(family, stage) for family in FAMILIES for stage in (1, 2)], ids="{0[0]}-{0[1]}".format
)
def subject(request: pytest.FixtureRequest, files: Path) -> Subject:
    """A family's network of either stage."""
    return Subject(*request.param, files)
