"""The help of a command, from the command line itself."""

from typer.testing import CliRunner

from spn4cir.cli import app
from spn4cir.errors import InputError


def help_of(command: str) -> str:
    """What `spn4cir COMMAND --help` prints, as a block of text. Raises InputError without such a command."""
    said = CliRunner().invoke(app, [command, "--help"], prog_name="spn4cir")
    if said.exit_code:
        raise InputError(f"'{command}' is no command of spn4cir; correct the page")
    return f"```text\n{said.output.rstrip()}\n```\n"
