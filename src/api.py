"""A model as an HTTP API: photos in, JSON out."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import cv2
import numpy as np
from fastapi import FastAPI, File, HTTPException, Query, Response, UploadFile

from src.answerer import Answer, Answerer, Ask, Refused
from src.batcher import Batcher, QueueFull
from src.guard import Bounds, Guard, Meters

REFUSALS: dict[int | str, dict[str, Any]] = {
    413: {"description": "too many photos or bytes"},
    429: {"description": "the queue is full"},
}


def make_app(answerer: Answerer, ask: Ask, bounds: Bounds | None = None) -> FastAPI:
    """The API of a model."""
    bounds, meters = bounds or Bounds(), Meters()
    batcher: Batcher[bytes, Answer | Refused] = Batcher(
        lambda photos: work(answerer, ask, meters, photos), bounds.batch, bounds.queue
    )
    meters.waiting.set_function(lambda: batcher.waiting)
    ready = asyncio.Event()

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(batcher.run()), asyncio.create_task(warm(answerer, ask, ready))]
        yield
        for task in tasks:
            task.cancel()

    app = FastAPI(title="Photo quality and captions", lifespan=life)

    @app.post("/answer", summary="mos and captions of photos", responses=REFUSALS)
    async def answer(
        photos: Annotated[list[UploadFile], File(description="JPEG, PNG, WebP, GIF, TIFF or BMP")],
        beams: Annotated[int, Query(ge=1, le=20, description="captions of each photo, the best first")] = 1,
    ) -> list[dict[str, Any]]:
        if len(photos) > bounds.photos:
            raise HTTPException(413, f"{len(photos)} photos: send at most {bounds.photos} at once")
        try:
            found = await batcher.submit([await photo.read() for photo in photos])
        except QueueFull as error:
            raise HTTPException(429, f"{error}; try again in a moment", {"Retry-After": "1"}) from error
        return [as_json(photo.filename or "", one, beams) for photo, one in zip(photos, found, strict=True)]

    @app.get("/health", summary="200 while the process lives")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready", summary="200 once photos are answered at full speed", responses={503: {"description": "no"}})
    async def readiness() -> dict[str, str]:
        if not ready.is_set():
            raise HTTPException(503, "the model is warming up")
        return {"status": "ready"}

    @app.get("/metrics", summary="for Prometheus")
    async def metrics() -> Response:
        return Response(meters.text(), media_type="text/plain; version=0.0.4")

    app.add_middleware(Guard, bounds=bounds, meters=meters)
    return app


def work(answerer: Answerer, ask: Ask, meters: Meters, photos: list[bytes]) -> list[Answer | Refused]:
    """Answers a batch and keeps count."""
    start = time.perf_counter()
    found = answerer.answer(photos, ask)
    meters.seconds.observe(time.perf_counter() - start)
    meters.batches.observe(len(photos))
    for one in found:
        meters.photos.labels("answered" if isinstance(one, Answer) else "refused").inc()
    return found


async def warm(answerer: Answerer, ask: Ask, ready: asyncio.Event) -> None:
    """Answers a grey photo, since the first pass is slower than all later ones; then says that it is ready."""
    grey = cv2.imencode(".png", np.full((64, 64, 3), 128, np.uint8))[1].tobytes()
    await asyncio.to_thread(answerer.answer, [grey], ask)
    ready.set()


def as_json(name: str, found: Answer | Refused, beams: int) -> dict[str, Any]:
    """An answer as JSON: the file's own name, and either mos, place, captions, seconds and note, or error."""
    if isinstance(found, Refused):
        return {"name": name, "error": found.reason}
    captions = [{"text": one.text, "score": one.score} for one in found.captions[:beams]]
    rest = {"seconds": round(found.seconds, 4), "note": found.note}
    return {"name": name, "mos": found.mos, "place": found.place, "captions": captions, **rest}
