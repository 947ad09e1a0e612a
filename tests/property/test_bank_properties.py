from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import spn4cir.composers.feature_files
from spn4cir.config.training import BankSettings
from spn4cir.training.bank import build_bank, open_bank
from spn4cir.types import Gallery, UniqueImages
from tests.conftest import CPU
from tests.helpers.layouts import draw
from tests.helpers.stub import StubComposer


class Killed(Exception):
    """Simulates a SIGKILL."""


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 5),
    st.lists(st.integers(1, 4), max_size=4),
    st.sampled_from(["float16", "float32"]),
    st.sampled_from(["stored", "recomputed"]),
)
def test_any_kills_cost_at_most_a_batch_each(
    images: int, batch: int, kills: list[int], dtype: Any, reference: Any
) -> None:
    """Runs that end after a few batches each, then a complete one, yield the bank of one run with few more encodes."""
    with TemporaryDirectory() as place:
        folder = Path(place)
        paths = tuple(draw(folder / f"{i}.png", i, (8, 8)) for i in range(images))
        names = tuple(path.stem for path in paths)
        unique = UniqueImages(Gallery(names, paths), {name: row for row, name in enumerate(names)})
        bank_settings = BankSettings(dtype=dtype, batch_size=batch, reference=reference, images="annotated")
        composer = StubComposer()

        def build(out: str, work: str, stop: int | None = None) -> None:
            (folder / work).mkdir(exist_ok=True)
            real, noted = spn4cir.composers.feature_files.write_json, []

            def stopped(*args: Any, **kwargs: Any) -> None:
                noted.append(1)
                if len(noted) == stop:
                    raise Killed
                real(*args, **kwargs)

            spn4cir.composers.feature_files.write_json = stopped
            try:
                build_bank(composer, unique, bank_settings, folder / out, folder / work, 0, CPU)
            except Killed:
                pass
            finally:
                spn4cir.composers.feature_files.write_json = real

        build("whole", "work 1")
        composer.encoded = 0
        for stop in kills:
            if not (folder / "bank").exists():
                build("bank", "work 2", stop)
        if not (folder / "bank").exists():
            build("bank", "work 2")
        assert images <= composer.encoded <= images + batch * len(kills)
        for path in (folder / "whole").iterdir():
            assert (folder / "bank" / path.name).read_bytes() == path.read_bytes()
        opened = open_bank(folder / "bank", composer, unique, bank_settings)
        torch.testing.assert_close(opened.target.norm(dim=1), torch.ones(images), rtol=0, atol=2e-3)
