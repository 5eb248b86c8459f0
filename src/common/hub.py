"""The model hub: a check that it answers, before a download that would fail only after most of a minute.

Held by tests/models/backbones/test_base.py.
"""

import os
import urllib.error
import urllib.request

from src.common.errors import UserError


def hub_address() -> str:
    """The address of Hugging Face's hub, or of what stands in for it."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co")


def require_network(address: str, name: str, remedy: str) -> None:
    """Raises UserError, ending in the remedy, where an address that holds the weights of `name` cannot be reached."""
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "TRUE", "YES", "ON"):
        raise UserError(f"HF_HUB_OFFLINE is set and the weights of {name} are not in the hub's cache; {remedy}")
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=5).close()
    except urllib.error.HTTPError:
        return  # it answers: the download itself will say what is wrong
    except OSError as error:
        raise UserError(
            f"the weights of {name} are at {address}, which cannot be reached ({error}); {remedy}"
        ) from None
