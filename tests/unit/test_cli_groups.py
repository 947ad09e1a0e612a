"""Groups of options: a command that names one takes its options, and receives them as one object."""

from dataclasses import fields

import pytest
import typer
from typer.testing import CliRunner

from spn4cir.cli import app, groups

NETWORK = ("validate", "submit", "index", "search", "serve", "export")


@pytest.mark.parametrize(
    ("group", "commands"),
    [
        (groups.NetworkOptions, NETWORK),
        (groups.FamilyOptions, (*NETWORK, "inspect")),
        (groups.MachineOptions, ("validate", "submit", "index", "search", "serve")),
        (groups.LayoutOptions, ("validate", "check-data", "add-dataset")),
        (groups.TrainingOptions, ("validate", "check-data", "add-dataset", "dedup")),
        (groups.SettingsOptions, ("validate", "submit", "dedup")),
    ],
)
def test_commands_take_the_options_of_their_groups(group, commands):
    known = typer.main.get_command(app).commands
    wanted = {field.name for field in fields(group)}
    assert {name for name in known if wanted <= {each.name for each in known[name].params}} == set(commands)


def test_a_command_receives_a_group_as_one_object(monkeypatch):
    own = typer.Typer()
    monkeypatch.setattr(groups, "app", own)
    received = []

    @groups.command("try --tasks a")
    def work(name: str, *, how: groups.LayoutOptions, machine: groups.MachineOptions) -> None:
        received.append((name, how, machine))

    done = CliRunner().invoke(own, ["x", "--tasks", "a, b", "--table", "images=*", "--workers", "3"])
    assert done.exit_code == 0, done.output
    name, how, machine = received[0]
    assert (name, how.given()) == ("x", {"table": {"images": "*"}, "tasks": ("a", "b")})
    assert machine == groups.MachineOptions(workers=3)


@pytest.mark.parametrize("arguments", [["-h"], ["search", "-h"], ["search", "--help"]])
def test_help_has_a_short_form(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    assert "Usage" in result.output
