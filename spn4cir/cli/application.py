"""The application that the commands register with, and the errors it prints when a command fails."""

import errno
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from spn4cir.errors import InputError, memory_error_line, os_error_line
from spn4cir.hub.variables import check_import_variables
from spn4cir.user import name_user
from spn4cir.utf8 import is_utf8, printable

INTERRUPTED = 130


class OneLine(TyperGroup):
    """Ends a failed command with one line on stderr and status 1, Ctrl-C with status 130; never with a traceback.

    A wrong call, also one with an argument that is not UTF-8, prints the usage and ends with status 2.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Parses the words after the name of the program."""
        _check_words(ctx, args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        try:
            name_user()
            check_import_variables()
            value = super().invoke(ctx)
            sys.stdout.flush()  # a closed pipe fails here, not when the interpreter exits
            return value
        except typer.BadParameter as error:
            error.message = _explain(error)
            raise
        except InputError as error:
            _fail(str(error))
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            _fail(os_error_line(error))
        except MemoryError as error:
            _fail(memory_error_line(error))
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None


def _check_words(ctx: Any, words: Sequence[str]) -> None:
    """Raises typer.BadParameter for a word that is not UTF-8, as files that commands write and libraries need it."""
    for before, word in zip(("", *words), words, strict=False):
        if not is_utf8(word):
            option, equals, value = word.partition("=")
            if not equals or not option.startswith("--"):
                option, value = before if before.startswith("-") else "argument", word
            message = f"'{printable(value)}' is not UTF-8; write it in UTF-8, or rename the file or folder"
            raise typer.BadParameter(message, ctx, param_hint=printable(option))


def example(command: str) -> str:
    r"""The end of a command's help, with an example; `\b` keeps the line breaks."""
    return f"\b\nExample:\n  {command}"


def _explain(error: typer.BadParameter) -> str:
    """The message of a bad value: the value and what is expected, instead of pydantic's own words."""
    problems: Any = getattr(error.__cause__, "errors", None)
    if problems is None:
        return error.message
    problem = problems()[0]
    limits = problem.get("ctx", {})
    expected = {
        "greater_than_equal": f"at least {limits.get('ge')}",
        "less_than_equal": f"at most {limits.get('le')}",
        "int_parsing": "a whole number",
    }
    if problem["type"] in expected:
        return f"got '{problem['input']}', expected {expected[problem['type']]}"
    return error.message.removeprefix("Value error, ").removesuffix(".")


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(1)


app = typer.Typer(
    cls=OneLine,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Composed image retrieval: find the images that match an image and a text. Each command works in any folder; "
    "the pipeline that trains the networks is run by DVC (see the README).",
)


def _print_version(asked: bool) -> None:
    if asked:
        import spn4cir

        print(f"spn4cir {spn4cir.__version__}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of the program itself."""
