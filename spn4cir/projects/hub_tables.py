"""Downloads the tables of a data set from the Hugging Face hub to the hub's own cache."""

from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from spn4cir.errors import InputError, first_line
from spn4cir.hub.fetch import fetch
from spn4cir.hub.refusals import HubRequest, hub_address, refusal
from spn4cir.hub.variables import check_hub_variables
from spn4cir.images.table_cells import CELL_SUFFIXES

_BY_HAND = "or download the data set by hand and name its folder with --path"


def fetch_tables(repository: str, revision: str, patterns: Sequence[str]) -> tuple[Path, str]:
    """Downloads the parquet and arrow files of a data set that are not in the cache; each is resumed and checked.

    Args:
        repository: repository as `owner/name`.
        revision: branch, tag or commit.
        patterns: paths of the files, with `*` for any part; empty for all files.

    Returns:
        The folder of the files, which must not be changed, and their commit.

    Raises:
        InputError: the hub cannot be reached, has no such data set or file, or a download stops before its end.
    """
    commit, names = _listed(repository, revision)
    tables = [name for name in names if PurePosixPath(name).suffix in CELL_SUFFIXES]
    chosen = [name for name in tables if not patterns or any(fnmatch(name, pattern) for pattern in patterns)]
    if not chosen:
        if not tables:
            raise InputError(f"{repository}: has no {' or '.join(CELL_SUFFIXES)} file; choose another data set")
        there = ", ".join(tables[:10])
        raise InputError(f"{repository}: no table matches {', '.join(patterns)}; choose from its tables: {there}")
    fetched = [fetch(repository, name, commit, remedy=_BY_HAND, kind="dataset") for name in sorted(chosen)]
    return fetched[0].path.parents[len(PurePosixPath(sorted(chosen)[0]).parts) - 1], commit


def _listed(repository: str, revision: str) -> tuple[str, list[str]]:
    """Returns the commit of a revision and its files."""
    check_hub_variables()
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError: of httpx or httpx2, by its version
        HFValidationError,
        HTTPError,
        OfflineModeIsEnabled,
    )

    try:
        found = HfApi().dataset_info(repository, revision=revision)
    except HFValidationError:
        raise InputError(f"repository '{repository}': is not a valid name on the hub; write it as owner/name") from None
    except (HTTPError, OfflineModeIsEnabled) as error:
        raise refusal(HubRequest(repository, "its list of files", revision, _BY_HAND, "dataset"), error) from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:  # a page, or JSON of another form
        raise _not_a_listing(repository, first_line(error)) from None
    names = [file.rfilename for file in found.siblings or []]
    if not found.sha or not all(isinstance(name, str) for name in names):
        raise _not_a_listing(repository, "no commit, or files without names")
    return found.sha, names


def _not_a_listing(repository: str, reason: str) -> InputError:
    return InputError(
        f"{repository}: the response of {hub_address()} is not a list of files ({reason}); check HF_ENDPOINT, and "
        "whether the network requires a login page"
    )
