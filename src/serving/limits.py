"""What the API takes at most, what it counts, and the door where both are done."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import HTTPException
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass
class RequestLimits:
    """What the API takes.

    Attributes:
        photos: of a request.
        batch: photos answered together.
        queue: photos that wait or are in work, and requests at once.
        megabytes: of a request, all its photos together.
    """

    photos: int = 16
    batch: int = 8
    queue: int = 64
    megabytes: float = 50.0


class Meters:
    """What Prometheus is told, of one application."""

    def __init__(self) -> None:
        """All at 0."""
        self.registry = own = CollectorRegistry()
        self.requests = Counter("requests", "Requests for answers, by HTTP status.", ["status"], registry=own)
        self.photos = Counter("photos", "Photos, by outcome.", ["outcome"], registry=own)
        sizes = [1, 2, 4, 8, 16, 32]
        self.batches = Histogram("batch_photos", "Photos answered together.", buckets=sizes, registry=own)
        self.seconds = Histogram("batch_seconds", "Seconds of a batch, from bytes to answers.", registry=own)
        self.waiting = Gauge("waiting_photos", "Photos that wait or are in work.", registry=own)

    def text(self) -> bytes:
        """Prometheus's text format."""
        return generate_latest(self.registry)


class RequestGuard:
    """Refuses requests above the bounds before their bodies are in memory, and counts statuses."""

    def __init__(self, app: "ASGIApp", bounds: RequestLimits, meters: Meters) -> None:
        """Around an application."""
        self.app, self.bounds, self.meters, self.active = app, bounds, meters, 0

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """As ASGI has it."""
        if scope["type"] != "http" or scope["path"] != "/answer":
            await self.app(scope, receive, send)
            return
        self.active += 1
        try:
            await self._guarded(scope, receive, self._counting(send))
        except Exception:  # the server answers it, beyond where statuses are counted
            self.meters.requests.labels("500").inc()
            raise
        finally:
            self.active -= 1

    async def _guarded(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if self.active > self.bounds.queue:
            refusal = JSONResponse({"detail": "too many requests at once; try again in a moment"}, 429)
            refusal.headers["Retry-After"] = "1"
        elif int(dict(scope["headers"]).get(b"content-length", 0)) > self.bounds.megabytes * 1e6:
            refusal = JSONResponse({"detail": f"more than {self.bounds.megabytes:g} MB; send fewer photos"}, 413)
        else:
            await self.app(scope, self._measured(receive), send)
            return
        await refusal(scope, receive, send)

    def _measured(self, receive: "Receive") -> "Receive":
        """Ends a body that says nothing of its length, or lies about it, once it is too long."""
        seen = 0

        async def measured() -> "Message":
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.bounds.megabytes * 1e6:
                raise HTTPException(413, f"more than {self.bounds.megabytes:g} MB; send fewer photos")
            return message

        return measured

    def _counting(self, send: "Send") -> "Send":
        async def counting(message: "Message") -> None:
            if message["type"] == "http.response.start":
                self.meters.requests.labels(str(message["status"])).inc()
            await send(message)

        return counting
