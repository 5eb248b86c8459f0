"""What tests need to start a server in a process of its own."""

import socket
import subprocess
import time
from urllib.request import urlopen

PATIENCE = 120.0  # seconds until a server must answer


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_up(url: str, server: subprocess.Popen) -> None:
    """Returns once the address answers 200.

    Raises:
        AssertionError: the server ended, or does not answer in time; names the last error.
    """
    end, last = time.monotonic() + PATIENCE, "no answer"
    while server.poll() is None and time.monotonic() < end:
        try:
            with urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError as error:  # not up yet, or up and not ready (503)
            last = str(error)
        time.sleep(0.2)
    raise AssertionError(f"{url}: {last}; the server's exit code is {server.poll()}")
