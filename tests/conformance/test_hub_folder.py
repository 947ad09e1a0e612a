"""Hub folders: every family of either stage loads from its folder alone, bit for bit."""

from pathlib import Path

import pytest

from spn4cir.checkpoints.export_hub_folder import export_folder
from spn4cir.checkpoints.hub_folder import WEIGHTS
from spn4cir.checkpoints.model_card import Facts
from spn4cir.checkpoints.open import open_checkpoint
from spn4cir.errors import InputError
from tests.conformance.builders import Subject, builder
from tests.conformance.test_files import assert_same, outputs


def test_a_folder_alone_gives_the_same_network(subject: Subject, tmp_path: Path) -> None:
    """Without head widths, tokenizer or family; by the folder or its file; and after a second export."""
    given = builder(subject.family).options
    config = export_folder(subject.published, tmp_path / "a", Facts("a"), subject.family, given)
    assert (config.name, config.stage) == (subject.family, subject.stage)
    wanted = outputs(subject.network)
    for place in (tmp_path / "a", tmp_path / "a" / WEIGHTS):
        assert_same(outputs(open_checkpoint(place).composer), wanted)
    again = export_folder(tmp_path / "a", tmp_path / "b", Facts("b"))
    assert again == config
    assert (tmp_path / "b" / WEIGHTS).read_bytes() == (tmp_path / "a" / WEIGHTS).read_bytes()


def test_a_folder_of_another_family_is_refused(first: Subject, tmp_path: Path) -> None:
    export_folder(first.published, tmp_path / "a", Facts("a"), first.family, builder(first.family).options)
    other = "tgcir" if first.network.family != "tgcir" else "clip"
    with pytest.raises(
        InputError, match=f"contains a stage-1 network of family '{first.network.family}', not '{other}'"
    ):
        open_checkpoint(tmp_path / "a", other)
