"""Provides a name and a home folder for a user id without them, e.g. in a container started with `--user 12345`.

Libraries need both: DVC and DVCLive the name, Matplotlib and the hub's client a folder for their caches. The command
line and the stages call `name_user` when they start.
"""

import os
import pwd
import sys
import tempfile
from pathlib import Path

from spn4cir.errors import InputError

# The variables that `getpass` reads before it looks up the name of the user id.
_NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")


def name_user() -> None:
    """Sets LOGNAME to the user id, and HOME to a temporary folder, if the user id has no name.

    Values in the environment are kept, except a HOME that is not writable. A user id with a name changes nothing.

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
            f"user id {user} has no home folder that can be written to: caches go to {os.environ['HOME']}; set "
            "HOME to another folder to keep them",
            file=sys.stderr,
        )


def _temporary_home(user: int) -> Path:
    home = Path(tempfile.gettempdir(), f"spn4cir-{user}")
    home.mkdir(mode=0o700, exist_ok=True)
    if home.is_symlink() or home.stat().st_uid != user:
        raise InputError(f"{home}: belongs to another user; set HOME to a folder that user id {user} can write to")
    return home
