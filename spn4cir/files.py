"""Files and folders: atomic writes, hashes, walks, and checks of the places to write.

An output is written under a temporary name beside its place, and renamed.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from spn4cir.errors import InputError
from spn4cir.readable import check_file, real_path
from spn4cir.removed_folder import REMOVED
from spn4cir.replace_folder import replace_folder
from spn4cir.temporary_files import put_back, remove, remove_stale, temporary_path

_BLOCK = 1 << 20
_WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.ENOENT)
# NumPy's message for an array that was not written whole; the error has no number.
_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")
_NOT_WRITABLE = (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG)


def named_in(error: Exception, path: Path) -> OSError:
    """The system's error that a library, such as FAISS or safetensors, reports as text only."""
    code = next((code for code in _WRITE_ERRORS if os.strerror(code) in str(error)), errno.EIO)
    return OSError(code, os.strerror(code), str(path))


@contextmanager
def disk_errors(path: Path, kept: str = "nothing was kept of this file") -> Iterator[None]:
    """Turns a failed write below `path` (full disk, no permission, a file in the way) into an InputError.

    `kept` says in the message of a full disk what remains.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or _SHORT_WRITE.fullmatch(str(error)):
            free = shutil.disk_usage(_existing(path)).free
            raise InputError(
                f"{path}: the disk is full ({free / 1e6:.0f} MB free); {kept}: free some room and run again"
            ) from error
        if error.errno in _NOT_WRITABLE:
            raise InputError(f"{path}: cannot be written ({error.strerror}); choose another place") from error
        raise


def _existing(path: Path) -> Path:
    """The nearest ancestor that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it to `path` when the block ends without an error.

    Parent folders are created; temporary files that killed runs left are removed. The file has at least the mode that
    the umask gives, also if the library that writes it makes a private one. Raises InputError when the disk is full or
    the place cannot be written.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InputError(f"{path}: is a device or a pipe, which a rename would replace; name a file")
    temporary = temporary_path(path)
    with disk_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_stale(path)
            mode = _mode_of_new(temporary)
            yield temporary
            _widen(temporary, mode)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `path`; replaces `path` by it when the block ends without an error.

    A process that is killed leaves the old or the new folder whole (`spn4cir.replace_folder`). If several processes
    write one path, the folder of the last one stays.

    Its files have at least the mode that the umask gives, as in `atomic_file`. Raises InputError when the disk is full
    or the place cannot be written.
    """
    temporary = temporary_path(path)
    with disk_errors(path), _parents(path):
        try:
            remove_stale(path)
            remove(temporary)  # of a process that had the same id
            temporary.mkdir()
            mode = _mode_of_new(temporary / path.name)
            yield temporary
            for place, _, names in os.walk(temporary):
                for name in names:
                    _widen(Path(place, name), mode)
            replace_folder(temporary, path)
        finally:
            with suppress(OSError):
                remove(temporary)


@contextmanager
def _parents(path: Path) -> Iterator[None]:
    """Makes the folders above a path, and removes those that it made if the block fails and they are empty."""
    absent = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for folder in absent:
            with suppress(OSError):
                folder.rmdir()
        raise


def _mode_of_new(path: Path) -> int:
    """The mode that a new file at `path` gets, from the umask or an access list of the folder; no file stays there."""
    path.touch()
    mode = path.stat().st_mode
    path.unlink()
    return mode


def _widen(path: Path, mode: int) -> None:
    """Adds the bits of `mode` to the mode of a file, unless it is a link or has other names: those files are shared."""
    status = path.lstat()
    if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_mode | mode != status.st_mode:
        path.chmod(stat.S_IMODE(status.st_mode | mode))


def copy_file(source: Path, path: Path) -> None:
    """Copies a file to `path` atomically. Raises InputError as `atomic_file`."""
    with atomic_file(path) as temporary:
        shutil.copyfile(source, temporary)


def file_hash(path: Path) -> str:
    """sha256 of the file's bytes, in hex. Raises InputError for a pipe or a device."""
    check_file(path)
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def check_hash(path: Path, sha256: str, remedy: str) -> None:
    """Raises InputError, with the remedy, when a file is missing or its bytes have another sha256."""
    if not path.is_file():
        raise InputError(f"{path}: is missing; {remedy}")
    if (found := file_hash(path)) != sha256:
        raise InputError(f"{path}: is damaged (sha256 {found[:12]}, expected {sha256[:12]}); {remedy}")


def value_hash(value: Any) -> str:
    """sha256 of a JSON-like value, independent of key order, in hex."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def tree_hash(path: Path) -> str:
    """sha256 over the names and contents of a file or of a folder's files, in hex."""
    if path.is_file():
        return file_hash(path)
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return value_hash([[str(p.relative_to(path)), file_hash(p)] for p in files])


def walk_once(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Walks a folder as `os.walk` does, and follows links; each real folder is visited once, so that cycles end.

    Folders are visited in the order of their names. The caller may take names out of the list of folders. A folder that
    does not exist has no content.

    Raises InputError for a folder that cannot be read.
    """
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, onerror=_refuse_unreadable, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        yield place, folders, names


def _refuse_unreadable(error: OSError) -> None:
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        denied = "give this user the right to read it, or choose a folder without it"
        remedy = denied if isinstance(error, PermissionError) else "check the disk"
        raise InputError(f"{error.filename}: cannot be read ({error.strerror}); {remedy}")


def require_space(path: Path, needed: int, remedy: str = "free some room or choose a smaller setting") -> None:
    """Raises InputError, with the remedy, when fewer than `needed` bytes are free where `path` will be written."""
    free = shutil.disk_usage(_existing(path)).free
    if free < needed:
        raise InputError(f"{path}: needs {needed / 1e6:,.0f} MB but the disk has {free / 1e6:,.0f} MB free; {remedy}")


def claim_space(descriptor: int, size: int) -> None:
    """Allocates `size` bytes for an open file, without holes.

    Writing to a hole of a memory-mapped file ends in a bus error when the disk is full.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)


def check_outside(path: Path, folder: Path) -> None:
    """Raises InputError for an output file inside the input folder that it is made from."""
    if real_path(folder) in real_path(path).parents:
        raise InputError(f"{path}: is inside {folder}, which is read; name a file outside it")


def check_replaceable(folder: Path, ours: Collection[str], kind: str) -> None:
    """Refuses to replace a folder that contains something else.

    A folder that a killed process set aside is put back first, so that the caller can read what it will replace.

    Args:
        folder: the folder to write.
        ours: the names that such a folder contains.
        kind: the kind of folder, for messages, as in `index`.

    Raises:
        InputError: the place is a file, or contains an entry with another name.
    """
    put_back(real_path(folder))
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; name a folder for the {kind}")
    strangers = sorted({entry.name for entry in folder.iterdir()} - {*ours, REMOVED}) if folder.exists() else []
    if strangers:
        raise InputError(
            f"{folder}: contains {strangers[0]}, which is not part of an {kind}; name a new folder for the {kind}"
        )
