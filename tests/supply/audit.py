"""Looks up the packages of constraints.txt in a database of known vulnerabilities: `make audit`.

pip-audit alone reports "No known vulnerabilities found" also if the database has none of the packages, as behind a
mirror that contains only the files. Here a package counts as checked only if the database answered for it.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PINNED = Path("constraints.txt")
# pip-audit's names of the databases: the advisories of the package index, and those of OSV. The first that answers
# is used.
DATABASES = ("pypi", "osv")
FOUND, NOT_CHECKED = 1, 2
_SHOWN = 5


def main() -> int:
    """Prints the result. Returns 0, 1 if a package has a known vulnerability, or 2 if packages were not checked."""
    faults = []
    for database in DATABASES:
        report, fault = ask(database)
        if report is None:
            faults.append(f"{database}: {fault}")
            continue
        status, lines = judge(report)
        print("\n".join(f"audit ({database}): {line}" for line in lines))
        return status
    print(f"audit: no database can be reached, so that nothing was checked ({'; '.join(faults)})", file=sys.stderr)
    return NOT_CHECKED


def ask(database: str) -> tuple[list[dict[str, Any]] | None, str]:
    """The packages with what a database knows of them; or None, and why it did not answer."""
    options = ("--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json")
    command = ["pip-audit", "--requirement", str(PINNED), *options, "--vulnerability-service", database]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None, "pip-audit is not installed; type make audit"
    try:
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        lines = done.stderr.strip().splitlines() or ["it printed nothing"]
        return None, lines[-1]
    if all("skip_reason" in each for each in packages):
        return None, packages[0]["skip_reason"] if packages else f"{PINNED} names no package"
    return packages, ""


def judge(packages: list[dict[str, Any]]) -> tuple[int, list[str]]:
    """The exit status and the lines of a report."""
    skipped = [each["name"] for each in packages if "skip_reason" in each]
    lines = [
        f"{each['name']} {each['version']}: {fault['id']}, fixed in {', '.join(fault['fix_versions']) or 'no version'}"
        for each in packages
        for fault in each.get("vulns", ())
    ]
    count = len(packages) - len(skipped)
    status = FOUND if lines else NOT_CHECKED if skipped else 0
    lines.append(f"{count} packages checked, {len(lines)} known vulnerabilities")
    if skipped:
        more = f" and {len(skipped) - _SHOWN} more" if len(skipped) > _SHOWN else ""
        lines.append(f"{len(skipped)} packages not checked: {', '.join(skipped[:_SHOWN])}{more}")
    return status, lines


if __name__ == "__main__":
    sys.exit(main())
