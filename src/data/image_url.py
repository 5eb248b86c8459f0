"""Images from the web, fetched with limits and never from a private address."""

import asyncio
import errno
import re
import ssl
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from socket import socket

import aiohttp
import certifi

from src.common.errors import UserError, one_line

SECONDS = 20.0  # for all of it: name, connection, redirects and content
MAX_BYTES = 32_000_000
MAX_REDIRECTS = 5
HEADERS = {"User-Agent": "multitask-iqa-captioning (fetches single images)", "Accept-Encoding": "identity"}
UNICAST, NAT64 = IPv6Network("2000::/3"), IPv6Network("64:ff9b::/96")  # RFC 4291, RFC 6052


def download_image(url: str, allow_private: bool = False) -> bytes:
    """The content at an address, as it was sent; the reader of images checks whether it is one.

    Every connection, that of a redirect too, goes to an address that was checked just before, whatever its name
    resolves to the next time. Proxies of the environment are not used.

    Args:
        url: of the scheme http or https.
        allow_private: also take addresses of this machine and of private networks.

    Raises:
        UserError: another scheme, no answer within SECONDS, a status other than 200, more than MAX_BYTES or
            MAX_REDIRECTS, or a private address.
    """
    if not re.match(r"https?://", url, re.IGNORECASE):
        raise UserError(f"{one_line(url)}: only http and https addresses are fetched; save the photo as a file")
    try:
        return asyncio.run(_fetch(url, allow_private))
    except TimeoutError:
        reason = f"it took more than {SECONDS:g} s"
    except aiohttp.TooManyRedirects:
        reason = f"it redirects more than {MAX_REDIRECTS} times"
    except aiohttp.ClientResponseError as error:
        reason = f"the server answers {error.status} {error.message}"
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
        reason = f"{error} is no http or https address"
    except aiohttp.ClientConnectorError as error:
        reason = f"{error.host}: {error.strerror}"
    except (aiohttp.ClientError, OSError, ValueError) as error:
        reason = str(error) or type(error).__name__
    raise UserError(f"{one_line(url)}: cannot be fetched ({one_line(reason)}); save the photo as a file")


def is_public(address: str) -> bool:
    """Whether an IP address, such as 8.8.8.8 or fe80::1%eth0, is unicast and reachable from all of the internet."""
    ip: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped or ip in NAT64:
            return is_public(str(IPv4Address(int(ip) & 0xFFFFFFFF)))
        if ip.sixtofour or ip.teredo or ip not in UNICAST:
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


async def _fetch(url: str, allow_private: bool) -> bytes:
    certificates = ssl.create_default_context()
    certificates.load_verify_locations(certifi.where())
    connector = aiohttp.TCPConnector(ssl=certificates, socket_factory=None if allow_private else _public_socket)
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout, headers=HEADERS, auto_decompress=False) as session,
        session.get(url, max_redirects=MAX_REDIRECTS, raise_for_status=True) as response,
    ):
        if (response.content_length or 0) > MAX_BYTES:
            raise ValueError(_too_large())
        content = bytearray()
        async for part in response.content.iter_any():
            content += part
            if len(content) > MAX_BYTES:
                raise ValueError(_too_large())
    return bytes(content)


def _public_socket(address: tuple) -> socket:
    """A socket for an entry of getaddrinfo, to which aiohttp connects it at once."""
    family, kind, protocol, _, target = address
    if not is_public(target[0]):
        raise PermissionError(errno.EACCES, f"{target[0]} is a private or reserved address")
    return socket(family, kind, protocol)


def _too_large() -> str:
    return f"it has more than {MAX_BYTES / 1e6:g} MB"
