"""Limits of the API's requests, and the middleware that keeps them and counts statuses.

Held by tests/serving/test_api.py.
"""

from dataclasses import dataclass

from fastapi import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from src.serving.prometheus import ServingMetrics


@dataclass
class RequestLimits:
    """The most that the API takes.

    Attributes:
        images: of a request.
        batch: images predicted in one batch.
        queue: images that wait or are in work, and requests at once.
        megabytes: of a request, all its images in sum.
    """

    images: int = 16
    batch: int = 8
    queue: int = 64
    megabytes: float = 50.0


class RequestGuard:
    """Refuses requests above the limits before their bodies are in memory, and counts statuses."""

    def __init__(self, app: ASGIApp, path: str, limits: RequestLimits, metrics: ServingMetrics) -> None:
        """Around an application, for one of its paths."""
        self.app, self.path, self.limits, self.metrics, self.active = app, path, limits, metrics, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI defines it."""
        if scope["type"] != "http" or scope["path"] != self.path:
            await self.app(scope, receive, send)
            return
        self.active += 1
        try:
            await self._limit(scope, receive, self._count(send))
        except Exception:  # the server answers it, beyond where statuses are counted
            self.metrics.requests.labels("500").inc()
            raise
        finally:
            self.active -= 1

    async def _limit(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.active > self.limits.queue:
            refusal = JSONResponse({"error": "too many requests at once; try again in a moment"}, 429)
            refusal.headers["Retry-After"] = "1"
        elif int(dict(scope["headers"]).get(b"content-length", 0)) > self.limits.megabytes * 1e6:
            refusal = JSONResponse({"error": self._too_large()}, 413)
        else:
            await self.app(scope, self._measure(receive), send)
            return
        await refusal(scope, receive, send)

    def _measure(self, receive: Receive) -> Receive:
        """Ends a body without a length, or with a wrong one, once it is too long."""
        size = 0

        async def measured() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self.limits.megabytes * 1e6:
                raise HTTPException(413, self._too_large())
            return message

        return measured

    def _count(self, send: Send) -> Send:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.metrics.requests.labels(str(message["status"])).inc()
            await send(message)

        return counted

    def _too_large(self) -> str:
        return f"more than {self.limits.megabytes:g} MB; send fewer photos"
