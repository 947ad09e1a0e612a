"""Made-up tables of rows for `make research`."""

from typing import Any

from ruamel.yaml import YAML

from demo.research.rows import ROWS_FILE, ResearchTable


def make_table(**rows: dict[str, Any]) -> ResearchTable:
    """A table of control, paper and the given rows."""
    content = YAML(typ="safe").load(ROWS_FILE)
    content["references"] = {"clip": ["paper", "control"]}
    kept = {name: {"means": name, "settings": {}} for name in ("control", "paper")}
    content["rows"] = kept | {name: {"means": name, **row} for name, row in rows.items()}
    return ResearchTable.model_validate(content)
