"""The check for known vulnerabilities says what it checked, and the hashes are of the tested versions."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.supply import audit

ROOT = Path(__file__).parents[2]
CLEAN = {"name": "a", "version": "1", "vulns": []}
SKIPPED = {"name": "b", "skip_reason": "Dependency not found on PyPI and could not be audited: b (1)"}
FAULTY = {
    "name": "c",
    "version": "3",
    "vulns": [{"id": "CVE-1", "fix_versions": ["4"]}, {"id": "X", "fix_versions": []}],
}


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Replaces pip-audit by a program that prints a database's answer."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def answers(**outputs: str) -> None:
        program = tmp_path / "pip-audit"
        cases = "\n".join(f"*{name}) cat <<'END'\n{text}\nEND\n;;" for name, text in outputs.items())
        program.write_text(
            f'#!/bin/sh\nPATH=/bin:/usr/bin\ncase "$*" in {cases}\n*) echo no network >&2; exit 1;;\nesac\n'
        )
        program.chmod(0o755)

    return answers


def report(*packages: dict) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


@pytest.mark.parametrize(
    ("packages", "status", "lines"),
    [
        ([CLEAN], 0, ["1 packages checked, 0 known vulnerabilities"]),
        (
            [CLEAN, FAULTY],
            1,
            ["c 3: CVE-1, fixed in 4", "c 3: X, fixed in no version", "2 packages checked, 2 known vulnerabilities"],
        ),
        (
            [CLEAN, SKIPPED],
            2,
            ["1 packages checked, 0 known vulnerabilities", "1 packages not checked: b"],
        ),
    ],
)
def test_a_report_counts_what_was_checked(database, capsys, packages, status, lines) -> None:
    database(pypi=report(*packages))
    assert audit.main() == status
    assert capsys.readouterr().out.splitlines() == [f"audit (pypi): {line}" for line in lines]


def test_a_database_without_any_of_the_packages_is_not_reached(database, capsys) -> None:
    """The next one is asked; pip-audit itself reports no vulnerabilities."""
    database(pypi=report(SKIPPED, SKIPPED), osv=report(CLEAN))
    assert audit.main() == 0
    assert capsys.readouterr().out.startswith("audit (osv): 1 packages checked")


@pytest.mark.parametrize("outputs", [{}, {"pypi": report(SKIPPED)}, {"osv": ""}])
def test_without_a_database_nothing_is_claimed(database, capsys, outputs) -> None:
    database(**outputs)
    assert audit.main() == audit.NOT_CHECKED
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("audit: no database can be reached, so that nothing was checked (")
    assert len(output.err.splitlines()) == 1


def test_without_pip_audit_it_says_so(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert audit.main() == audit.NOT_CHECKED
    assert "pip-audit is not installed; type make audit" in capsys.readouterr().err


def locked() -> dict[str, tuple[str, int]]:
    """The version and the number of hashes of each package of requirements.lock."""
    text = (ROOT / "requirements.lock").read_text()
    found = re.findall(r"^([\w.-]+)==(\S+)(.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    return {canonicalize_name(name): (version, rest.count("--hash=sha256:")) for name, version, rest in found}


def test_the_hashes_are_of_the_tested_versions() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    tested = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}
    packages = locked()
    assert len(packages) > 200
    assert all(count for _, count in packages.values())
    other = {name: version for name, (version, _) in packages.items() if tested.get(name, version) != version}
    assert other == {}, "write it again: make lock"


def test_every_package_that_is_required_has_hashes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    named = [*project["dependencies"], *(each for name, group in extras.items() if name != "gpu" for each in group)]
    names = {canonicalize_name(Requirement(each).name) for each in named} - {"spn4cir"}
    assert names - set(locked()) == set(), "write it again: make lock"


def test_the_hashes_name_no_index() -> None:
    """They hold for every mirror with the same files."""
    assert "://" not in (ROOT / "requirements.lock").read_text()
