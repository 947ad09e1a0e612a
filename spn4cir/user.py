"""A name and a home folder for a user id that has none, as in a container that was started with `--user 12345`.

Libraries ask for both while they are used: DVC and DVCLive for the name, Matplotlib and the hub's client for the folder
of their caches. Called by what starts a process: the command line and the stages.
"""

import os
import pwd
import sys
import tempfile
from pathlib import Path

from spn4cir.errors import InputError

# Where `getpass` looks before it asks for the name of the user id.
_NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")


def name_user() -> None:
    """Sets LOGNAME to the user id, and HOME to a temporary folder, where the user id has neither a name nor a home.

    Values of the environment are kept, except a HOME that is not writable. Does nothing for a user id that has a name.

    Raises:
        InputError: the temporary folder belongs to another user.
    """
    user = os.getuid()
    try:
        pwd.getpwuid(user)
        return
    except KeyError:
        pass
    if not any(os.environ.get(name) for name in _NAMES):
        os.environ["LOGNAME"] = str(user)
    home = os.environ.get("HOME", "")
    if not (os.path.isabs(home) and os.access(home, os.W_OK | os.X_OK)):  # noqa: PTH117 - an empty Path is `.`
        os.environ["HOME"] = str(_temporary_home(user))
        print(
            f"user id {user} has no home folder that can be written to: caches go to {os.environ['HOME']}; let HOME "
            "name another folder to keep them",
            file=sys.stderr,
        )


def _temporary_home(user: int) -> Path:
    home = Path(tempfile.gettempdir(), f"spn4cir-{user}")
    home.mkdir(mode=0o700, exist_ok=True)
    if home.is_symlink() or home.stat().st_uid != user:
        raise InputError(f"{home}: belongs to another user; let HOME name a folder that user id {user} can write to")
    return home
