"""The token that clients of other machines need: its sources, its comparison, and the middleware that demands it.

No message, log or command line of another process holds the token.
Held by tests/serving/test_access_token.py.
"""

import hashlib
import hmac
import os
import re
import socket
from ipaddress import ip_address

from pydantic import SecretStr
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from src.common.errors import UserError
from src.config.cli import CommandParser
from src.config.schema import Port

VARIABLE = "SRC_TOKEN"
OPEN_PATHS = ("/health",)
FORM = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # of a bearer token, RFC 6750
MAKE = "python -c 'import secrets; print(secrets.token_urlsafe())'"


def add_address_options(parser: CommandParser, port: int) -> None:
    """Options of a server: its address and the token."""
    about = "address to listen on; one that other machines can reach needs a token"
    parser.add_argument("--host", type=str, default="127.0.0.1", help=about)
    parser.add_argument("--port", type=Port, default=port, help="port to listen on")
    about = f"token that every client must give; better in the variable {VARIABLE}, since `ps` shows options"
    parser.add_argument("--token", type=SecretStr, help=about)


def read_token(option: SecretStr | None = None) -> str:
    """The token of the option, else that of SRC_TOKEN; empty: there is none.

    Raises:
        UserError: it holds a character that no header takes.
    """
    source, token = f"the variable {VARIABLE}", os.environ.get(VARIABLE, "")
    if option is not None:
        source, token = "--token", option.get_secret_value()
    if token and not FORM.fullmatch(token):
        raise UserError(f"{source}: a token has letters, digits and ._~+/- alone; make one with {MAKE}")
    return token


def require_token(host: str, token: str) -> None:
    """Raises UserError where other machines can reach a server on `host`, and it has no token."""
    if not token and not is_loopback(host):
        raise UserError(f"--host {host}: other machines can reach it; set {VARIABLE} to a token, made with {MAKE}")


def is_loopback(host: str) -> bool:
    """Whether this machine alone can reach a server on `host`: all addresses of the name are loopback."""
    try:
        addresses = {str(entry[4][0]).partition("%")[0] for entry in socket.getaddrinfo(host or "0.0.0.0", None)}
    except (OSError, UnicodeError):
        return False
    return all(ip_address(address).is_loopback for address in addresses)


def token_matches(given: bytes, token: str) -> bool:
    """Whether a client gave the token, compared in a time that depends on neither."""
    digests = (hashlib.sha256(value).digest() for value in (given, token.encode()))
    return hmac.compare_digest(*digests)


class TokenGuard:
    """Refuses requests without `Authorization: Bearer TOKEN` before their bodies are read, but for OPEN_PATHS."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        """Around an application."""
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI defines it."""
        if scope["type"] == "lifespan" or scope["path"] in OPEN_PATHS or self._is_authorized(scope):
            await self.app(scope, receive, send)
            return
        error = "the token is missing or wrong; send the header Authorization: Bearer TOKEN"
        await JSONResponse({"error": error}, 401, {"WWW-Authenticate": "Bearer"})(scope, receive, send)

    def _is_authorized(self, scope: Scope) -> bool:
        scheme, _, given = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
        return scheme.lower() == b"bearer" and token_matches(given.strip(), self.token)
