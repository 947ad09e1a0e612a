"""The short form of the kills, and whether its checks can fail."""

import json
import os
import sys
from pathlib import Path

import pytest

from spn4cir.json_files import write_json
from spn4cir.positives.digest_file import appended
from tests.faults.checks import (
    FinalFiles,
    Progress,
    Reference,
    Watcher,
    differing_outs,
    hashes,
    outs_of,
    progress_of,
    repeated,
)
from tests.faults.kills import Campaign
from tests.faults.project import Run
from tests.faults.tiny import TINY, Tiny

KILLS = 3


def test_a_run_that_is_killed_again_and_again_ends_like_an_uninterrupted_one(tiny: Tiny, tmp_path: Path) -> None:
    tiny.copy(tmp_path / "project")
    write_json(tmp_path / "reference.json", vars(tiny.reference))
    campaign = Campaign(tmp_path, 7, tiny.environment, command=TINY)
    campaign.run(KILLS)
    assert campaign.faults() == []
    assert len(campaign.kills) == KILLS
    assert campaign.rows()[-1].survived == len(campaign.rounds) >= 1
    again = Campaign(tmp_path, 7, tiny.environment, command=TINY)
    again.run(KILLS)
    assert again.kills == campaign.kills


# A pipeline of three stages in place of DVC's; an argument makes it break a promise.
_PIPELINE = """
import json, os, pathlib, sys, time
fault = sys.argv[1]
lock = pathlib.Path("dvc.lock")
stages = json.loads(lock.read_text())["stages"] if lock.exists() else {}
began = pathlib.Path("began")
if fault == "fails" and began.exists():
    sys.exit("odd")
began.touch()
for name in ("a@d", "b@d", "c@d"):
    if name in stages:
        continue
    print(f"Running stage '{name}':", flush=True)
    out = pathlib.Path("data", name[0])
    out.parent.mkdir(exist_ok=True)
    temporary = out if fault == "partial" else out.with_name(f".{out.name}.tmp")
    with temporary.open("w") as stream:
        stream.write("half")
        stream.flush()
        time.sleep(0.3)
        stream.write("whole")
    temporary.replace(out)
    md5 = str(len(stages) + (os.getpid() if fault == "differs" else 0))
    stages[name] = {"outs": [{"path": str(out), "md5": md5}]}
    pathlib.Path("new").write_text(json.dumps({"stages": stages}))
    os.replace("new", lock)
"""


@pytest.mark.parametrize(
    ("fault", "words"),
    [("", ""), ("partial", "is partial under"), ("differs", "differs from that"), ("fails", "ended with 1: odd")],
)
def test_the_driver_counts_what_survived_and_says_what_did_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, words: str
) -> None:
    monkeypatch.setattr(Campaign, "_doctor", lambda self: ([], 1))
    (tmp_path / "project").mkdir()
    (tmp_path / "pipeline.py").write_text(_PIPELINE)
    command = (sys.executable, "-S", str(tmp_path / "pipeline.py"))
    whole = tmp_path / "whole"
    whole.mkdir()
    run = Run(whole, os.environ, (*command, ""))
    assert run.end() == 0
    write_json(tmp_path / "reference.json", vars(Reference.of(whole, run, tmp_path / "project")))
    campaign = Campaign(tmp_path, 1, os.environ, command=(*command, fault))
    campaign.run(3)
    rows = campaign.rows()
    assert len(campaign.kills) == sum(row.tried for row in rows[:-1]) == 3
    assert rows[-1].note == "`spn4cir doctor` mended 3 leftovers"
    assert rows[-1].tried == len(campaign.rounds) >= 1
    assert bool(campaign.faults()) == bool(fault)
    assert all(words in line for line in campaign.faults())


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with an out, a lock file, work in progress and the date of a scoring."""
    for name, content in {
        "data/bank/d/target.npy": "whole",
        "data/validate/d/scored.json": '{"date": "2026-01-01"}\n',
        "data/work/bank/d/key/done.json": '{"images": 24}',
        "dvc.lock": "stages: {bank@d: {outs: [{path: data/bank/d, md5: a}, {path: x/scored.json, md5: b}]}}",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


def test_kills_are_spread_over_the_stages(tmp_path: Path) -> None:
    """Otherwise the last stage, which is hit in each run that comes there, would never let a run end."""
    reference = Reference(seconds={"a@d": 1.0, "a@e": 1.0, "b@d": 1.0}, outs={}, files={}, before={})
    campaign = Campaign(tmp_path, 0, {}, code="code")
    for hits, completed, stages in (
        ({"`a`": 2, "`b`": 3}, {"a@d", "a@e"}, {"b@d"}),
        ({"`a`": 2, "`b`": 4}, {"a@d"}, {"a@e"}),
        ({"`a`": 2, "`b`": 4}, {"a@d", "a@e"}, {None}),
        ({"`a`": 3, "`b`": 2}, {"a@d", "a@e"}, {"b@d"}),
    ):
        found = set()
        for more in range(20):  # the number of kills decides the draw
            kills = [hit for hit, times in hits.items() for _ in range(times)] + ["before the first stage"] * more
            campaign.kills = [{"hit": hit} for hit in kills]
            moment = campaign._moment(reference, completed)
            found.add(moment.stage if moment else None)
        assert found - {""} <= stages
        assert found - {""}


def test_a_partial_file_under_its_final_name_is_found(project: Path) -> None:
    files = FinalFiles(project, hashes(project))
    assert files.faults() == []
    path = project / "data" / "bank" / "d" / "target.npy"
    path.write_text("who")
    assert files.faults() == ["data/bank/d/target.npy: is partial under its final name (3 bytes)"]
    path.write_text("whole")
    (project / "data/validate/d/scored.json").write_text('{"date": "2026-')
    (project / "data/bank/d/.other.npy.1.tmp").write_text("wh")
    assert files.faults() == ["data/validate/d/scored.json: is partial under its final name (15 bytes)"]


def test_a_file_that_is_as_before_the_run_is_whole(project: Path) -> None:
    before = hashes(project)
    (project / "data" / "bank" / "d" / "target.npy").write_text("new")
    files = FinalFiles(project, before, hashes(project))
    assert files.faults() == []
    (project / "data" / "bank" / "d" / "target.npy").write_text("whole")
    assert files.faults() == []


def test_the_watcher_finds_a_file_that_was_partial_for_a_moment(project: Path) -> None:
    path = project / "data" / "bank" / "d" / "target.npy"
    files = FinalFiles(project, hashes(project))
    path.write_text("who")
    with Watcher(files) as watcher:
        while not watcher.found:
            os.sched_yield()
        path.write_text("whole")
    assert files.faults() == []


def test_outs_are_compared_without_those_that_hold_a_time(project: Path) -> None:
    assert outs_of(project) == {"data/bank/d": "a"}
    assert differing_outs(project, {"data/bank/d": "a"}) == []
    assert differing_outs(project, {"data/bank/d": "c"}) == ["data/bank/d: differs from that of an uninterrupted run"]
    assert differing_outs(project, {}) == ["data/bank/d: is an out of no uninterrupted run"]


TRAIN = "Running stage 'train@d':"


@pytest.mark.parametrize(
    ("lines", "complete", "found"),
    [
        ([TRAIN, "stage 2: resumed after epoch 2/3", "epoch 3: loss 1"], True, 0),
        ([TRAIN, "stage 2: resumed after epoch 1/3", "epoch 2: loss 1"], True, 1),
        ([TRAIN, "epoch 1: loss 1"], False, 1),
        ([TRAIN], False, 0),  # killed before it resumed
        ([TRAIN, "Running stage 'validate@d':"], False, 1),
        (["Running stage 'validate@d':"], True, 0),  # it had ended
    ],
)
def test_more_than_one_repeated_epoch_is_found(lines: list[str], complete: bool, found: int) -> None:
    assert len(repeated(Progress("train@d", 3, 0), lines, complete)) == found


def test_images_whose_features_were_stored_are_not_encoded_again(project: Path) -> None:
    before = progress_of(project, "bank@d", ["Running stage 'bank@d':"])
    assert before == Progress("bank@d", 0, 24)
    start = "Running stage 'bank@d':"
    assert repeated(before, [start, "bank: resumed after 24 of 1,000 images"], True) == []
    assert repeated(before, [start, "bank: resumed after 8 of 1,000 images"], True) == [
        "bank@d: repeats images from 8, 24 were stored"
    ]


def test_match_stores_rows(project: Path) -> None:
    write_json(project / "data/work/match/d/key/done.json", {"rows": 8})
    before = progress_of(project, "match@d", ["Running stage 'match@d':"])
    assert before == Progress("match@d", 0, 8)
    assert repeated(before, ["Running stage 'match@d':", "match: resumed after 8 of 24 images"], True) == []
    assert len(repeated(before, ["Running stage 'match@d':"], True)) == 1


def test_dedup_stores_digests(project: Path) -> None:
    stored = project / "data/work/dedup/d/key/digests.bin"
    stored.parent.mkdir(parents=True)
    with appended(stored) as keep:
        for number in range(8):
            keep(bytes([number] * 32))
    with stored.open("ab") as stream:
        stream.write(b"part")
    before = progress_of(project, "dedup@d", ["Running stage 'dedup@d':"])
    assert before == Progress("dedup@d", 0, 8)
    assert repeated(before, ["Running stage 'dedup@d':", "dedup: resumed after 8 of 24 images"], True) == []
    assert len(repeated(before, ["Running stage 'dedup@d':"], True)) == 1


def test_a_stage_of_no_data_set_has_no_progress(project: Path) -> None:
    assert progress_of(project, "code", ["Running stage 'code':"]) == Progress("code", 0, 0)


def test_a_fault_is_reported_with_what_repeats_it(tmp_path: Path) -> None:
    kill = {"moment": ["train@d", 0.5], "hit": "`train`", "faults": ["odd"], "mended": 2}
    state = {"code": "a", "seed": 7, "kills": [kill], "rounds": [["differs"]], "seconds": 1.0}
    (tmp_path / "state.json").write_text(json.dumps(state))
    campaign = Campaign(tmp_path, 7, {}, code="a")
    campaign._read()
    assert campaign.faults() == ["kill 0 (seed 7, 0.500 s after train@d, in `train`): odd", "run 0: differs"]
    assert [(row.tried, row.survived) for row in campaign.rows()] == [(1, 0), (1, 0)]


def test_the_state_of_other_code_is_removed(tmp_path: Path) -> None:
    place = tmp_path / "kills"
    write_json(place / "state.json", {"code": "a", "seed": 7, "kills": [{}], "rounds": [], "seconds": 1.0})
    campaign = Campaign(place, 7, {}, code="b")
    campaign._read()
    assert campaign.kills == []
    assert not place.exists()
