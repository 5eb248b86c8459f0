"""Models as an HTTP API: photos in, JSON out."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any

import cv2
import numpy as np
from fastapi import FastAPI, File, HTTPException, Query, Request, Response, UploadFile
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException as StarletteHTTPException

from src.config.schema import GenerationConfig
from src.inference.attention import has_attention
from src.inference.neighbours import has_neighbours
from src.inference.predict_options import PredictOptions, with_beam, with_rerank
from src.inference.predictor import Prediction, PredictionError, Predictor
from src.serving.access_token import TokenGuard
from src.serving.batching import Batcher, QueueFull
from src.serving.limits import RequestGuard, RequestLimits
from src.serving.prometheus import ServingMetrics
from src.serving.schemas import ErrorResponse, ModelSchema, PredictResponse, prediction_to_json

PREDICT = "/predict"
MAX_BEAM = 20
FILES: dict[str, Any] = {"items": {"type": "string", "format": "binary"}}  # for /docs to offer files
REFUSALS = {
    400: "no such model or style, or nothing to choose captions by",
    413: "too many photos or bytes",
    429: "the queue is full",
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": reason} for status, reason in REFUSALS.items()
}


@dataclass
class ServedModel:
    """A model, and its options where a request does not say."""

    predictor: Predictor
    options: PredictOptions


@dataclass(frozen=True)
class PredictRequest:
    """The options of a request; photos of equal requests are predicted in one batch.

    Attributes:
        model: by its name here.
        beam: how wide; 0: as the model was trained to.
        style: of the captions; empty: the model's own.
        attention: also where the decoder attended for each word.
        rerank: choose captions by the training captions; None: as the model's own settings say.
    """

    model: str
    beam: int
    style: str
    attention: bool
    rerank: bool | None = None


PredictBatcher = Batcher[tuple[PredictRequest, bytes], Prediction | PredictionError]


def make_app(models: dict[str, ServedModel], limits: RequestLimits | None = None, token: str = "") -> FastAPI:
    """The API of models by name; the first predicts where a request names none. With a token, clients must send it."""
    limits, metrics = limits or RequestLimits(), ServingMetrics()
    batcher: PredictBatcher = Batcher(lambda jobs: predict_requests(models, metrics, jobs), limits.batch, limits.queue)
    metrics.waiting.set_function(lambda: batcher.waiting)
    ready = asyncio.Event()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(batcher.run()), asyncio.create_task(warm_up(models, ready))]
        yield
        for task in tasks:
            task.cancel()

    app = FastAPIOffline(title="Photo quality and captions", lifespan=lifespan)  # its docs need no other server
    app.add_exception_handler(StarletteHTTPException, error_response)
    add_predict_routes(app, models, limits, batcher)
    add_health_routes(app, ready, metrics)
    app.add_middleware(RequestGuard, path=PREDICT, limits=limits, metrics=metrics)
    if token:
        app.add_middleware(TokenGuard, token=token)
    return app


async def error_response(_: Request, error: Exception) -> JSONResponse:
    """A refusal as ErrorResponse has it."""
    assert isinstance(error, StarletteHTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


def add_predict_routes(
    app: FastAPI, models: dict[str, ServedModel], limits: RequestLimits, batcher: PredictBatcher
) -> None:
    """The paths that predict photos, and list the models."""
    first = next(iter(models))

    @app.post(PREDICT, summary="mos and captions of photos", responses=RESPONSES)
    async def predict(
        photos: Annotated[
            list[UploadFile], File(description="JPEG, PNG, WebP, GIF, TIFF or BMP", json_schema_extra=FILES)
        ],
        model: Annotated[str, Query(description="one of /models")] = first,
        beams: Annotated[int, Query(ge=1, le=MAX_BEAM, description="captions of each photo, if the beam has them")] = 1,
        beam: Annotated[int, Query(ge=0, le=MAX_BEAM, description="captions kept at each step; 0: as trained")] = 0,
        style: Annotated[str, Query(description="of the captions, by data set; empty: the model's own")] = "",
        attention: Annotated[bool, Query(description="also where the decoder attended for each word")] = False,
        rerank: Annotated[
            bool | None,
            Query(description="choose captions by those of similar training photos; null: as the model says"),
        ] = None,
    ) -> PredictResponse:
        if len(photos) > limits.images:
            raise HTTPException(413, f"{len(photos)} photos: send at most {limits.images} at once")
        request = PredictRequest(model, beam, style, attention, rerank)
        check_request(models, request)
        try:
            predictions = await batcher.submit([(request, await photo.read()) for photo in photos])
        except QueueFull as error:
            raise HTTPException(429, f"{error}; try again in a moment", {"Retry-After": "1"}) from error
        pairs = zip(photos, predictions, strict=True)
        return PredictResponse(
            predictions=[prediction_to_json(photo.filename or "", prediction, beams) for photo, prediction in pairs]
        )

    @app.get("/models", summary="the models that are served, and their heads")
    async def list_models() -> list[ModelSchema]:
        return [describe_served_model(name, served) for name, served in models.items()]


def add_health_routes(app: FastAPI, ready: asyncio.Event, metrics: ServingMetrics) -> None:
    """The paths for monitoring."""

    @app.get("/health", summary="200 while the process lives")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready", summary="200 once predictions run at full speed", responses={503: {"model": ErrorResponse}})
    async def readiness() -> dict[str, str]:
        if not ready.is_set():
            raise HTTPException(503, "the model is warming up")
        return {"status": "ready"}

    @app.get("/metrics", summary="for Prometheus")
    async def prometheus() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")


def check_request(models: dict[str, ServedModel], request: PredictRequest) -> None:
    """Raises HTTPException 400 where there is no such model or style, or no training captions to choose by."""
    if request.model not in models:
        raise HTTPException(400, f"model {request.model}: there are {', '.join(models)}; choose one of these")
    styles = models[request.model].predictor.styles()
    if request.style and request.style not in styles:
        remedy = f"{', '.join(styles)}; choose one of these" if styles else "none; leave it out"
        raise HTTPException(400, f"style {request.style}: {request.model} has {remedy}")
    if request.rerank and styles and not has_neighbours(models[request.model].predictor.description.folder):
        raise HTTPException(400, f"rerank: {request.model} has no training captions to choose by; leave it out")


def describe_served_model(name: str, served: ServedModel) -> ModelSchema:
    """A model's heads, styles and beam."""
    description = served.predictor.description
    return ModelSchema(
        name=name,
        mos=description.config.model.mos.enabled,
        captions=description.config.model.decoder.enabled,
        attention=has_attention(description),
        styles=served.predictor.styles(),
        beam=served.options.generation.beam,
    )


def predict_requests(
    models: dict[str, ServedModel], metrics: ServingMetrics, jobs: list[tuple[PredictRequest, bytes]]
) -> list[Prediction | PredictionError]:
    """Predicts a batch, photos of equal requests at once, and counts."""
    rows: dict[PredictRequest, list[int]] = {}
    for row, (request, _) in enumerate(jobs):
        rows.setdefault(request, []).append(row)
    predictions: dict[int, Prediction | PredictionError] = {}
    for request, group in rows.items():
        images = [jobs[row][1] for row in group]
        predictions |= zip(group, predict_request(models[request.model], metrics, request, images), strict=True)
    return [predictions[row] for row in range(len(jobs))]


def predict_request(
    served: ServedModel, metrics: ServingMetrics, request: PredictRequest, images: list[bytes]
) -> list[Prediction | PredictionError]:
    """Predicts photos of equal requests, and counts."""
    start, options = time.perf_counter(), served.options
    options = replace(
        options,
        generation=request_generation(options.generation, request),
        style=request.style or options.style,
        attention=request.attention and has_attention(served.predictor.description),
    )
    predictions = served.predictor.predict_bytes(images, options)
    metrics.seconds.observe(time.perf_counter() - start)
    metrics.batches.observe(len(images))
    for prediction in predictions:
        metrics.images.labels("predicted" if isinstance(prediction, Prediction) else "refused").inc()
    return predictions


def request_generation(generation: GenerationConfig, request: PredictRequest) -> GenerationConfig:
    """A model's settings with those of a request."""
    generation = with_beam(generation, request.beam) if request.beam else generation
    return generation if request.rerank is None else with_rerank(generation, request.rerank)


async def warm_up(models: dict[str, ServedModel], ready: asyncio.Event) -> None:
    """Has each model predict a grey photo, since a first pass is slower than later ones; then sets `ready`."""
    grey = cv2.imencode(".png", np.full((64, 64, 3), 128, np.uint8))[1].tobytes()
    for served in models.values():
        await asyncio.to_thread(served.predictor.predict_bytes, [grey], served.options)
    ready.set()
