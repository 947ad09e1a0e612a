"""Runs of whole pages of docs/, block by block."""

import shlex
from typing import Any

import pytest
from typer.testing import CliRunner

from spn4cir.cli import app
from tests.helpers.blocks import Block, blocks


def blocks_of(page: str, *languages: str) -> list[Block]:
    """Returns a page's blocks in these languages, in order, without those that a mark exempts."""
    return [block for block in blocks() if block.page == page and block.language in languages and not block.mark]


def run_page(page: str) -> dict[str, Any]:
    """Runs a page's `spn4cir` commands and Python code in this process and folder. Returns the names in the code."""
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks_of(page, "bash", "python"):
        if block.language == "python":
            exec(compile(block.text, str(block), "exec"), names)
            continue
        for command in block.commands():
            program, *arguments = shlex.split(command, comments=True)
            assert program == "spn4cir", command
            result = CliRunner().invoke(app, arguments)
            if result.exit_code:
                pytest.fail(f"{block}: {command}: {result.output}")
    return names
