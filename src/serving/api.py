"""Models as an HTTP API: photos in, JSON out."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import cv2
import numpy as np
from fastapi import FastAPI, File, HTTPException, Query, Response, UploadFile
from fastapi_offline import FastAPIOffline

from src.inference.attention import has_attention
from src.inference.predictor import Prediction, PredictionError, Predictor, RequestOptions, with_beam
from src.serving.batching import Batcher, QueueFull
from src.serving.limits import Meters, RequestGuard, RequestLimits
from src.serving.schemas import ErrorSchema, ModelSchema, PredictionSchema, RefusalSchema, prediction_to_json

WIDEST = 20
FILES: dict[str, Any] = {"items": {"type": "string", "format": "binary"}}  # what the page of docs offers to choose


@dataclass
class ServedModel:
    """A model, and how it answers where a request does not say."""

    answerer: Predictor
    ask: RequestOptions


@dataclass(frozen=True)
class PredictRequest:
    """What a request wants of each of its photos; photos of equal wishes are answered together.

    Attributes:
        model: by its name here.
        beam: how wide; 0: as the model was trained to.
        style: of the captions; empty: the model's own.
        attention: also where each word looked.
    """

    model: str
    beam: int
    style: str
    attention: bool


def make_app(models: dict[str, ServedModel], bounds: RequestLimits | None = None) -> FastAPI:
    """The API of models by name; the first answers where a request names none."""
    bounds, meters = bounds or RequestLimits(), Meters()
    batcher: Batcher[tuple[PredictRequest, bytes], Prediction | PredictionError] = Batcher(
        lambda jobs: predict_requests(models, meters, jobs), bounds.batch, bounds.queue
    )
    meters.waiting.set_function(lambda: batcher.waiting)
    ready = asyncio.Event()

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(batcher.run()), asyncio.create_task(warm_up(models, ready))]
        yield
        for task in tasks:
            task.cancel()

    app = FastAPIOffline(title="Photo quality and captions", lifespan=life)  # its page of docs asks no other server
    add_predict_routes(app, models, bounds, batcher)
    add_health_routes(app, ready, meters)
    app.add_middleware(RequestGuard, bounds=bounds, meters=meters)
    return app


def add_predict_routes(
    app: FastAPI,
    models: dict[str, ServedModel],
    bounds: RequestLimits,
    batcher: Batcher[tuple[PredictRequest, bytes], Prediction | PredictionError],
) -> None:
    """The paths that answer photos and say by which models."""
    first = next(iter(models))
    refusals = {400: "no such model or style", 413: "too many photos or bytes", 429: "the queue is full"}
    responses = {status: {"model": RefusalSchema, "description": why} for status, why in refusals.items()}

    @app.post("/answer", summary="mos and captions of photos", responses=responses)  # type: ignore[arg-type]
    async def answer(
        photos: Annotated[
            list[UploadFile], File(description="JPEG, PNG, WebP, GIF, TIFF or BMP", json_schema_extra=FILES)
        ],
        model: Annotated[str, Query(description="one of /models")] = first,
        beams: Annotated[int, Query(ge=1, le=WIDEST, description="captions of each photo, if the beam has them")] = 1,
        beam: Annotated[int, Query(ge=0, le=WIDEST, description="captions kept at each step; 0: as trained")] = 0,
        style: Annotated[str, Query(description="of the captions, by data set; empty: the model's own")] = "",
        attention: Annotated[bool, Query(description="also where each word of the captions looked")] = False,
    ) -> list[PredictionSchema | ErrorSchema]:
        if len(photos) > bounds.photos:
            raise HTTPException(413, f"{len(photos)} photos: send at most {bounds.photos} at once")
        wish = check_request(models, PredictRequest(model, beam, style, attention))
        try:
            found = await batcher.submit([(wish, await photo.read()) for photo in photos])
        except QueueFull as error:
            raise HTTPException(429, f"{error}; try again in a moment", {"Retry-After": "1"}) from error
        return [prediction_to_json(photo.filename or "", one, beams) for photo, one in zip(photos, found, strict=True)]

    @app.get("/models", summary="the models that answer, and what each of them can")
    async def known() -> list[ModelSchema]:
        return [describe_served_model(name, one) for name, one in models.items()]


def add_health_routes(app: FastAPI, ready: asyncio.Event, meters: Meters) -> None:
    """The paths that watch over the API."""

    @app.get("/health", summary="200 while the process lives")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready", summary="200 once photos are answered at full speed", responses={503: {"model": RefusalSchema}})
    async def readiness() -> dict[str, str]:
        if not ready.is_set():
            raise HTTPException(503, "the model is warming up")
        return {"status": "ready"}

    @app.get("/metrics", summary="for Prometheus")
    async def metrics() -> Response:
        return Response(meters.text(), media_type="text/plain; version=0.0.4")


def check_request(models: dict[str, ServedModel], wish: PredictRequest) -> PredictRequest:
    """The wish, if it can be met.

    Raises:
        HTTPException: 400, no such model or style.
    """
    if wish.model not in models:
        raise HTTPException(400, f"model {wish.model}: there are {', '.join(models)}; choose one of these")
    known = models[wish.model].answerer.styles()
    if wish.style and wish.style not in known:
        there = f"{', '.join(known)}; choose one of these" if known else "none; leave it out"
        raise HTTPException(400, f"style {wish.style}: {wish.model} has {there}")
    return wish


def describe_served_model(name: str, served: ServedModel) -> ModelSchema:
    """What a model can."""
    about = served.answerer.about
    return ModelSchema(
        name=name,
        mos=about.config.model.mos.enabled,
        captions=about.config.model.decoder.enabled,
        attention=has_attention(about),
        styles=served.answerer.styles(),
        beam=served.ask.generation.beam,
    )


def predict_requests(
    models: dict[str, ServedModel], meters: Meters, jobs: list[tuple[PredictRequest, bytes]]
) -> list[Prediction | PredictionError]:
    """Answers a batch, those of equal wishes together, and keeps count."""
    rows: dict[PredictRequest, list[int]] = {}
    for row, (wish, _) in enumerate(jobs):
        rows.setdefault(wish, []).append(row)
    found: dict[int, Prediction | PredictionError] = {}
    for wish, own in rows.items():
        found |= zip(own, predict_alike(models, meters, wish, [jobs[row][1] for row in own]), strict=True)
    return [found[row] for row in range(len(jobs))]


def predict_alike(
    models: dict[str, ServedModel], meters: Meters, wish: PredictRequest, photos: list[bytes]
) -> list[Prediction | PredictionError]:
    """Answers photos of equal wishes and keeps count."""
    start, served = time.perf_counter(), models[wish.model]
    own = served.ask
    generation = with_beam(own.generation, wish.beam) if wish.beam else own.generation
    looks = wish.attention and has_attention(served.answerer.about)
    found = served.answerer.answer(photos, RequestOptions(generation, wish.style or own.style, looks))
    meters.seconds.observe(time.perf_counter() - start)
    meters.batches.observe(len(photos))
    for one in found:
        meters.photos.labels("answered" if isinstance(one, Prediction) else "refused").inc()
    return found


async def warm_up(models: dict[str, ServedModel], ready: asyncio.Event) -> None:
    """Has each model answer a grey photo, since a first pass is slower than later ones; then says that it is ready."""
    grey = cv2.imencode(".png", np.full((64, 64, 3), 128, np.uint8))[1].tobytes()
    for one in models.values():
        await asyncio.to_thread(one.answerer.answer, [grey], one.ask)
    ready.set()
