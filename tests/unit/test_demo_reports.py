"""What `make demo` and `make ablation` print."""

import json
from pathlib import Path

import pytest
from dvc.cli.parser import get_main_parser

from demo import ablation, summary
from spn4cir.errors import InputError
from spn4cir.params import load_params

ROOT = Path(__file__).parents[2]


def test_the_summary_shows_both_stages_and_the_gain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = {
        "recall_at1": 30.0,
        "mean_recall5_subset1": 61.5,
        "counts": {"queries": {"val": 12}},
        "stage1": {"recall_at1": 25.5, "mean_recall5_subset1": 62.0},
    }
    (tmp_path / "demo_cirr").mkdir()
    (tmp_path / "demo_cirr/clip.json").write_text(json.dumps(metrics))
    summary.main(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[2:6]] == [
        ["R@1", "mean"],
        ["stage", "1", "25.50", "62.00"],
        ["stage", "2", "30.00", "61.50"],
        ["gain", "+4.50", "-0.50"],
    ]


def test_a_summary_without_metrics_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run: make demo"):
        summary.main(tmp_path)


@pytest.mark.parametrize("row", ablation.ROWS)
def test_ablation_commands_are_what_dvc_takes(row: str) -> None:
    """DVC's own parser accepts each command, and each param that it sets stands in params.yaml."""
    command = ablation.command(row, 7)
    arguments = get_main_parser().parse_args(command[1:])
    assert arguments.tmp_dir
    params = load_params(ROOT / "params.yaml").model_dump(by_alias=True)
    for setting in arguments.set_param:
        value = params
        for part in setting.split("=")[0].split("."):
            value = value[part]


def test_ablation_report_gives_mean_and_spread() -> None:
    keys = [key for names in ablation.SCORES.values() for key in names]
    rows = [dict.fromkeys(keys, value) for value in (10.0, 12.0, 14.0)]
    found = {row: dict.fromkeys(ablation.DATASETS, rows) for row in ("stage 1", *ablation.ROWS)}
    lines = ablation.report(found).splitlines()
    assert "| +P+N | 12.00 ± 2.00 | 12.00 ± 2.00 | 12.00 ± 2.00 |" in lines
    assert sum(line.startswith("| stage 1 |") for line in lines) == 2
