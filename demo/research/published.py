"""Checks that `make research` compares with the published recipe: the settings that rows have from `params.yaml`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from demo.research.rows import ResearchTable
from spn4cir.config.load import parse_merged
from spn4cir.errors import InputError
from spn4cir.projects.apply_recipe import changed_settings
from spn4cir.projects.named_recipes import PUBLISHED


def require_published(table: ResearchTable, rows: Sequence[str], datasets: Sequence[str], path: Path) -> None:
    """Requires the published recipe in a file of settings, because a row has those settings that it does not name.

    Args:
        table: the rows.
        rows: names of the rows.
        datasets: names of the data sets.
        path: the file.

    Raises:
        InputError: for a data set and a family of the rows, a setting differs from the published recipe.
    """
    merged = parse_merged(path.read_text(encoding="utf-8"), str(path))[1]
    families = dict.fromkeys(table.rows[row].family for row in rows)
    for dataset in datasets:
        for family in families:
            changes, _ = changed_settings(merged.values, str(path), PUBLISHED, dataset, [family])
            if changes:
                keys = ", ".join(".".join(change.path) for change in changes)
                raise InputError(
                    f"{path}: data set {dataset}, family {family}: {keys} differ from the recipe {PUBLISHED}, which "
                    f"the rows refer to; run: spn4cir recipe {PUBLISHED} --dataset {dataset} --family {family}"
                )
