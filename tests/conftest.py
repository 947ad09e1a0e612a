"""Fixtures of several test files."""

import os
import signal
from collections.abc import Iterator

import pytest
import torch

from spn4cir.config.params import Validate
from spn4cir.config.training import BankSettings
from tests.helpers.browser import browser, open_page  # noqa: F401
from tests.helpers.open_clip_folders import clip_file, clip_folder  # noqa: F401
from tests.helpers.server import hold  # noqa: F401
from tests.helpers.stub import StubComposer
from tests.helpers.wheel import environment, unpacked, wheel  # noqa: F401

CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="session")
def _interruptible() -> None:
    """Lets SIGINT end the processes of tests, which ignore it where a shell started the tests in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _same_environment() -> Iterator[None]:
    """Undoes changes of the environment by commands: in later tests, processes would compute with fewer threads."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def stub() -> StubComposer:
    return StubComposer()


@pytest.fixture
def protocol() -> Validate:
    return Validate(remove_reference=True, capitalise=False, batch_size=4, sheet_queries=3)


@pytest.fixture
def bank_settings() -> BankSettings:
    return BankSettings(dtype="float32", batch_size=4, reference="stored", images="annotated")
