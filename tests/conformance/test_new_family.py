"""docs/new-family.md: its code is the toy's, its tables are complete, and the toy trains from end to end."""

import re
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML

from spn4cir.checkpoints.published import load_composer
from spn4cir.composers import Container, FamilyEntry, composer_class
from spn4cir.composers.protocol import Composer
from spn4cir.config.defaults import BY_FAMILY, WATCHED
from spn4cir.config.load import parse_params
from spn4cir.config.params import Validate
from spn4cir.config.training import BankSettings
from spn4cir.datasets import open_layout
from spn4cir.positives.dedup import deduplicate
from spn4cir.training.bank import build_bank, open_bank
from spn4cir.training.setup import TrainingSetup
from spn4cir.training.stage1 import train_stage1
from spn4cir.training.stage2 import train_stage2
from tests.conformance.conftest import TOY
from tests.conftest import CPU
from tests.helpers.layouts import write_fashioniq
from tests.helpers.stub import optimisation, stage2

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "new-family.md").read_text(encoding="utf-8")
HERE = Path(__file__).parent
# Names that every torch module has.
MODULE = {"state_dict", "load_state_dict", "modules", "named_parameters", "train", "to"}


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", DOC, flags=re.MULTILINE | re.DOTALL)


def first_cells(header: str) -> set[str]:
    """The code in the first cells of a table."""
    table = DOC.split(f"| {header} |", 1)[1].split("\n\n", 1)[0]
    cells = re.findall(r"^\| (`.*?) \|", table, flags=re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_the_code_is_the_one_that_is_tested() -> None:
    code, entry, builder = blocks()
    assert code == (HERE / "toy.py").read_text(encoding="utf-8")
    registered = eval("{" + entry + "}", {"FamilyEntry": FamilyEntry, "Container": Container})["toy"]
    assert registered.target == "spn4cir.composers.toy:ToyComposer"
    assert registered.containers == TOY.containers
    function, line = builder.strip().split("\n\n\n")
    builders = (HERE / "builders.py").read_text(encoding="utf-8")
    assert f"\n{function}\n" in builders
    assert f"    {line}\n" in builders


def test_the_members_are_those_of_the_protocol() -> None:
    members = {name for name in (*vars(Composer), *Composer.__annotations__) if not name.startswith("_")}
    assert first_cells("member") == members - MODULE


def rows_of(family: str, values: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Returns the sections in which a family has an entry."""
    for key, value in values.items():
        if key == family:
            yield (*place, key)
        elif isinstance(value, dict):
            yield from rows_of(family, value, (*place, key))


def test_the_rows_are_those_of_the_settings() -> None:
    """For every data set. With the page's defaults, minimal entries and models, the file is complete."""
    values = YAML(typ="safe").load(ROOT / "params.yaml")
    (shown,) = re.findall(r"^```yaml\n(.*?)^```$", DOC, flags=re.MULTILINE | re.DOTALL)
    defaults = YAML(typ="safe").load(shown)["defaults"]
    assert defaults.keys() == set(BY_FAMILY)
    places = [place for place in rows_of("clip", values) if place[0] != "defaults"]
    named = {place for name in values["datasets"] for place in places if name in place}
    assert named == set(places)
    general = {".".join("<d>" if part in values["datasets"] else part for part in place[:-1]) for place in places}
    assert {f"{place}.<f>" for place in general} == first_cells("row")
    for section, families in defaults.items():
        values["defaults"][section] |= families
    for section, *names, _ in places:
        row = values[section]
        for part in names:
            row = row[part]
        least = {key: row["clip"][key] for key in WATCHED.get(section, ())} if section in BY_FAMILY else row["clip"]
        row["toy"] = least
    values["run"]["models"] = ["toy"]
    text = StringIO()
    YAML(typ="safe").dump(values, text)
    params = parse_params(text.getvalue(), "p")
    assert params.train["fiq"]["toy"].lr == 1e-3
    assert params.train["fiq"]["toy"].weight_decay == params.train["fiq"]["clip"].weight_decay


def test_the_toy_trains_from_end_to_end(tmp_path: Path) -> None:
    """From no base model to the second stage's file, on a FashionIQ of eighteen images."""
    layout = open_layout("fashioniq", write_fashioniq(tmp_path / "data"), "error")
    unique = deduplicate(layout.training_gallery(), 0)
    triplets = layout.training_triplets()
    protocol = Validate(remove_reference=True, capitalise=False, batch_size=8, sheet_queries=1)
    for name in ("work1", "work2", "bank work"):
        (tmp_path / name).mkdir()
    torch.manual_seed(0)
    base = composer_class("toy").from_base("none", None)
    settings: dict[str, Any] = {"lr": 0.1, "epochs": 8, "batch_size": 6}
    setup = TrainingSetup(layout, triplets, protocol, seed=1, work=tmp_path / "work1", workers=0, device=CPU)
    first = train_stage1(base, unique, optimisation(**settings), setup, tmp_path / "stage1.pt")
    composer = load_composer(tmp_path / "stage1.pt", "toy")
    how = BankSettings(dtype="float32", batch_size=8, reference="stored", images="annotated")
    build_bank(composer, unique, how, tmp_path / "bank", tmp_path / "bank work", 0, CPU)
    bank = open_bank(tmp_path / "bank", composer, unique, how)
    setup = replace(setup, work=tmp_path / "work2")
    second = train_stage2(composer, bank, stage2(**settings), setup, tmp_path / "out")
    for history in (first, second):
        assert history.epochs[-1]["loss"] < history.epochs[0]["loss"]
    assert load_composer(tmp_path / "out" / "best.pt").family == "toy"


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:tests|spn4cir|docs)/[\w./-]+)`", DOC))))
def test_the_files_that_it_names_are_there(path: str) -> None:
    assert (ROOT / path).exists() or path == "spn4cir/composers/toy.py"
