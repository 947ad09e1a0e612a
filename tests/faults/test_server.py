"""A short campaign against a real server, with few clients."""

import pytest

from tests.faults.server import run
from tests.faults.server_abuses import ABUSES


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    return run(folder, clients=[8, 24], seconds=1, step=4, patience=2, seconds_to_end=30)  # on a busy machine


def test_every_fault_is_survived(found):
    assert not found.complaints
    assert {row.fault for row in found.rows} > {"SIGTERM with requests in flight", "files outside of the gallery"}
    failed = [row for row in found.rows if row.survived < row.tried]
    assert not failed


def test_clients_did_what_they_should(found):
    tried = {row.fault: row.tried for row in found.rows}
    assert sum(tried.get(abuse.name, 0) for abuse in ABUSES) > 20
    assert tried["honest requests"] > 3  # with this seed, four clients begin with one
