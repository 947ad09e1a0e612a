"""Fixtures of the short form."""

from collections.abc import Iterator, Mapping

import pytest

from tests.faults.project import warm_environment
from tests.faults.tiny import Tiny


@pytest.fixture(scope="session")
def warm() -> Iterator[Mapping[str, str]]:
    """An environment in which stages start from a warm process."""
    with warm_environment() as environment:
        yield environment


@pytest.fixture(scope="session")
def tiny(warm: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A project that has run; tests copy it."""
    return Tiny.make(tmp_path_factory.mktemp("tiny"), warm)
