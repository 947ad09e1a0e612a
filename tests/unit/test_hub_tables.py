"""A data set of the hub: its tables fetched, resumed and pinned, and added to the pipeline."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
from typer.testing import CliRunner

from spn4cir.cli import app
from spn4cir.config.load import load_params
from spn4cir.errors import InputError
from spn4cir.hub import download as hub_transfer
from spn4cir.projects.hub_tables import fetch_tables
from tests.helpers.hub_server import REPOSITORY, Cut, Hub, point_at, serve
from tests.helpers.layouts import write_table

ROOT = Path(__file__).parents[2]
TRAIN, VALIDATION = "data/train-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve() as hub:
        point_at(monkeypatch, hub.endpoint, tmp_path / "hf" / "hub")
        monkeypatch.setattr(hub_transfer, "_SECONDS_BETWEEN_ATTEMPTS", 0.0)
        for name in ("HF_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield hub


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    root = write_table(tmp_path / "drawn")
    tables = {name: (root / name).read_bytes() for name in (TRAIN, VALIDATION)}
    return {**tables, "README.md": b"a data set", "other/test.parquet": b"another configuration"}


def test_the_tables_of_a_pattern_are_fetched_once(hub: Hub, files: dict[str, bytes]) -> None:
    commit = hub.publish(files)
    folder, found = fetch_tables(REPOSITORY, "main", ["data/*"])
    assert found == commit
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")} == {TRAIN, VALIDATION}
    assert (folder / TRAIN).read_bytes() == files[TRAIN]
    hub.publish({"data/train.parquet": b"a later commit"})
    assert fetch_tables(REPOSITORY, commit, ["data/*"]) == (folder, commit)
    assert len(hub.downloads()) == 2


def test_a_download_that_broke_off_goes_on(hub: Hub, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    hub.publish(files)
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1 << 10)
    hub.cuts = [Cut(4096)]
    folder, _ = fetch_tables(REPOSITORY, "main", ["data/train*"])
    assert (folder / TRAIN).read_bytes() == files[TRAIN]
    assert [request.range for request in hub.downloads()] == [None, "bytes=4096-"]


def test_what_the_hub_does_not_have(hub: Hub, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    hub.publish(files)
    with pytest.raises(InputError, match=r"no table matches corpus/\*; choose from its tables: data/train-0.*/test"):
        fetch_tables(REPOSITORY, "main", ["corpus/*"])
    with pytest.raises(InputError, match="has no revision 'v9'; name a branch, a tag or a whole commit hash"):
        fetch_tables(REPOSITORY, "v9", [])
    with pytest.raises(InputError, match="is not a valid name on the hub; write it as owner/name"):
        fetch_tables("a b", "main", [])
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set; unset it, or download the data set by hand"):
        fetch_tables(REPOSITORY, "main", [])


def test_a_data_set_is_added_from_the_hub_and_pinned(
    hub: Hub, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit and the columns are in params.yaml, so that a colleague types only the name."""
    commit = hub.publish(files)
    project = tmp_path / "project"
    project.mkdir()
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, project)
    (project / "data/models/demo_fiq").mkdir(parents=True)
    monkeypatch.chdir(project)
    columns = ["--table", "reference=reference_image", "--table", "target=target_image", "--table", "files=data/*"]
    arguments = ["add-dataset", "mine", "--layout", "table", "--like", "demo_fiq"]
    result = CliRunner().invoke(app, [*arguments, "--hub", REPOSITORY, *columns])
    assert result.exit_code == 0, result.output
    assert "training    30 triplets, 31 images" in result.output
    assert "validation  10 val queries" in result.output
    settings = load_params(project / "params.yaml").datasets["mine"]
    assert settings.hub is not None
    assert (settings.hub.repository, settings.hub.revision) == (REPOSITORY, commit)
    assert settings.options == {
        "table": {"files": "data/*", "columns": {"reference": "reference_image", "target": "target_image"}}
    }
    hub.publish({})
    (project / "data/raw/mine").unlink()
    text = (project / "params.yaml").read_bytes()
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 0, again.output
    assert (project / "data/raw/mine" / TRAIN).read_bytes() == files[TRAIN]
    assert (project / "params.yaml").read_bytes() == text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layout", "table"], "no data given: give --path FOLDER or, for layout table, --hub OWNER/NAME"),
        (["--layout", "cirr", "--hub", "a/b"], "layout cirr is not read from the hub; download it and name its folder"),
        (["--layout", "table", "--hub", "a/b", "--path", "."], "give --path or --hub, not both"),
        (["--layout", "table", "--path", ".", "--table", "a"], "--table 'a': write it as KEY=VALUE"),
        (
            ["--layout", "table", "--path", ".", "--table", "files=a", "--table", "files=b"],
            "--table files=: is given 2 times; give it once",
        ),
    ],
)
def test_options_that_do_not_go_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["add-dataset", "mine", *arguments])
    assert result.exit_code == 1
    assert message in result.stderr
