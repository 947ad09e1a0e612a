"""The example files of docs/gpu.md."""

import re
import subprocess

import pytest
from ruamel.yaml import YAML

from tests.helpers.blocks import ROOT

EXAMPLES = ROOT / "docs" / "examples"


def test_the_page_links_every_example() -> None:
    linked = set(re.findall(r"\]\(examples/([\w.]+)\)", (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")))
    assert linked == {path.name for path in EXAMPLES.iterdir()}


def test_the_job_of_slurm_is_valid_bash_and_asks_for_one_task_a_machine() -> None:
    script = EXAMPLES / "slurm.sbatch"
    subprocess.run(["bash", "-n", str(script)], check=True)
    options = re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", script.read_text(encoding="utf-8"), re.MULTILINE)
    assert dict(options)["ntasks-per-node"] == "1"


@pytest.mark.parametrize("name", ["setup", "run"])
def test_the_task_of_skypilot_is_valid(name: str) -> None:
    task = YAML(typ="safe").load(EXAMPLES / "skypilot.yaml")
    assert set(task) == {"name", "resources", "workdir", "file_mounts", "setup", "run"}
    subprocess.run(["bash", "-n", "-c", task[name]], check=True)
