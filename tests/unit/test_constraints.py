"""The tested versions of the packages, which `make` installs."""

from importlib.metadata import distributions
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

OLDEST_PYTHON = "3.11.0"


def test_every_tested_version_supports_the_oldest_python():
    """Debian 12 has Python 3.11.2; a package that requires a later 3.11 makes the installation fail there."""
    lines = (Path(__file__).parents[2] / "constraints.txt").read_text().splitlines()
    tested = dict(line.split("==") for line in lines if "==" in line)
    installed = {canonicalize_name(each.metadata["Name"]): each for each in distributions()}
    checked = {}
    for name, version in tested.items():
        found = installed.get(canonicalize_name(name))
        if found and found.version.partition("+")[0] == version.partition("+")[0]:
            checked[name] = SpecifierSet(found.metadata["Requires-Python"] or "").contains(OLDEST_PYTHON)
    assert len(checked) > 100
    assert [name for name, supported in checked.items() if not supported] == []
