"""Hugging Face's hub: its address, and a quick check of the network before a download, whose own takes a minute."""

import os
import urllib.error
import urllib.request

from src.common.errors import UserError


def hub_address() -> str:
    """The address of Hugging Face's hub, or of the mirror that HF_ENDPOINT names."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co")


def require_network(address: str, name: str, remedy: str) -> None:
    """Checks that an address answers within 5 s.

    Args:
        address: of the server that has the weights.
        name: the model, for the message.
        remedy: the message's end.

    Raises:
        UserError: it cannot be reached, or HF_HUB_OFFLINE forbids it.
    """
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "TRUE", "YES", "ON"):
        raise UserError(f"HF_HUB_OFFLINE is set and the weights of {name} are not in the hub's cache; {remedy}")
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=5).close()
    except urllib.error.HTTPError:
        return  # it answers; the download reports a missing file itself
    except OSError as error:
        raise UserError(
            f"the weights of {name} are at {address}, which cannot be reached ({error}); {remedy}"
        ) from None
