"""Checks of the environment variables that huggingface_hub and its HTTP client read."""

import os
from urllib.parse import urlsplit

from spn4cir.errors import InputError, masked_url

_SECONDS = ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT")
_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")


def check_hub_variables() -> None:
    """Raises InputError that names a variable whose value would end each use of the hub, or its import, in an error."""
    for name in _SECONDS:
        if (value := os.environ.get(name, "")) and not value.strip().isdecimal():
            raise InputError(
                f"{name}: expected whole seconds, got {value!r}; set it to a number such as 10, or unset it"
            )
    for name in _TOKENS:
        token = os.environ.get(name, "").strip()
        if not (token.isascii() and token.isprintable()):
            raise InputError(f"{name}: contains a character that no token has; copy it again")
    for name in ("HF_ENDPOINT", *_PROXIES, *map(str.lower, _PROXIES)):
        if (url := os.environ.get(name, "")) and not _is_url(url, bare=name != "HF_ENDPOINT"):
            raise InputError(
                f"{name}: expected a URL such as https://host, got {masked_url(url)!r}; correct or unset it"
            )


def _is_url(url: str, bare: bool) -> bool:
    """Whether a text is a URL with a host; `bare`: or a host without a scheme, as a proxy may be given."""
    try:
        parts = urlsplit(url if "://" in url or not bare else f"//{url}")
        return bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
