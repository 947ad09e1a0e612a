"""Checks of the environment variables that huggingface_hub and HTTP clients read.

The command line and the stages call `check_import_variables` when they start, as some of their libraries import
huggingface_hub. The rest is checked where the hub or a database is used, so that it ends no command without them.
"""

import os
from collections.abc import Callable
from urllib.parse import urlsplit

from spn4cir.errors import InputError, masked_url

_SECONDS = ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT")
_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")


def check_import_variables() -> None:
    """Raises InputError that names a variable whose value ends the import of huggingface_hub in an error."""
    for name in _SECONDS:
        if (value := os.environ.get(name, "")) and not value.strip().isdecimal():
            raise InputError(
                f"{name}: expected whole seconds, got {value!r}; set it to a number such as 10, or unset it"
            )
    _check_url("HF_ENDPOINT", _can_be_split)


def check_hub_variables() -> None:
    """Raises InputError that names a variable whose value would end each use of the hub, or its import, in an error."""
    check_import_variables()
    for name in _TOKENS:
        token = os.environ.get(name, "").strip()
        if not (token.isascii() and token.isprintable()):
            raise InputError(f"{name}: contains a character that no token has; copy it again")
    _check_url("HF_ENDPOINT", _is_url)
    check_proxies()


def check_proxies() -> None:
    """Raises InputError that names a proxy variable which is neither a URL with a host nor a host without a scheme."""
    for name in (*_PROXIES, *map(str.lower, _PROXIES)):
        _check_url(name, lambda url: _is_url(url if "://" in url else f"//{url}"))


def _check_url(name: str, is_right: Callable[[str], bool]) -> None:
    """Raises InputError for a variable that is set to a URL which is not right."""
    if (url := os.environ.get(name, "")) and not is_right(url):
        raise InputError(f"{name}: expected a URL such as https://host, got {masked_url(url)!r}; correct or unset it")


def _can_be_split(url: str) -> bool:
    """Whether a text can be split into the parts of a URL, whatever they are."""
    try:
        _ = urlsplit(url).port
    except ValueError:
        return False
    return True


def _is_url(url: str) -> bool:
    """Whether a text is a URL with a host, and with a port that a server can have if it has one."""
    return _can_be_split(url) and bool((parts := urlsplit(url)).hostname) and parts.port != 0
