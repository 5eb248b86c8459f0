"""The API's responses as JSON; the OpenAPI page shows these shapes.

Held by tests/serving/test_api.py and tests/golden/test_api.py.
"""

from pydantic import BaseModel, Field

from src.inference.predictor import Prediction, PredictionError

DIGITS = 4  # of attention


class AttentionSchema(BaseModel):
    """Where the decoder attended for each word of a caption, as docs/details.schema.json has it."""

    words: list[str] = Field(description="T words or pieces of words")
    weights: list[list[float]] = Field(
        description="T rows of N weights over the photo's N = side x side places, row by row from the top left; "
        "each sums to 1 but for rounding"
    )


class CaptionSchema(BaseModel):
    """A caption of the beam."""

    text: str
    score: float = Field(description="log probability over length ** length_penalty")
    attention: AttentionSchema | None = Field(
        description="null without attention=true, or of a model whose decoder does not attend"
    )


class PredictionSchema(BaseModel):
    """A model's prediction for a photo."""

    name: str = Field(description="the file's name, as sent")
    mos: float | None = Field(description="in the training data's units; null of a model without mos")
    place: float | None = Field(description="part of the training photos whose mos is lower, 0 to 1")
    captions: list[CaptionSchema] = Field(description="the best first; none of a model without captions")
    seconds: float = Field(description="from bytes to prediction; of photos in one batch, an equal share")
    note: str = Field(description="a change of the photo that its owner may not expect; empty: none")


class PhotoErrorSchema(BaseModel):
    """A photo without a prediction."""

    name: str = Field(description="the file's name, as sent")
    error: str = Field(description="why, on one line")


class PredictResponse(BaseModel):
    """The photos of a request, in their order."""

    predictions: list[PredictionSchema | PhotoErrorSchema]


class ModelSchema(BaseModel):
    """A model that is served."""

    name: str
    mos: bool = Field(description="whether it predicts mos")
    captions: bool = Field(description="whether it writes captions")
    attention: bool = Field(description="whether its decoder attends to places of the photo")
    styles: list[str] = Field(description="of its captions, by data set")
    beam: int = Field(description="captions kept at each step where a request does not say")


class ErrorResponse(BaseModel):
    """Why a request was refused."""

    error: str


def prediction_to_json(
    name: str, prediction: Prediction | PredictionError, beams: int
) -> PredictionSchema | PhotoErrorSchema:
    """A prediction as the API gives it, with at most `beams` of its captions."""
    if isinstance(prediction, PredictionError):
        return PhotoErrorSchema(name=name, error=prediction.reason)
    captions = []
    for caption in prediction.captions[:beams]:
        attention = None
        if caption.attention is not None:
            weights = caption.attention[:-1].astype(float).round(DIGITS).tolist()
            attention = AttentionSchema(words=caption.words, weights=weights)
        captions.append(CaptionSchema(text=caption.text, score=caption.score, attention=attention))
    return PredictionSchema(
        name=name,
        mos=prediction.mos,
        place=prediction.place,
        captions=captions,
        seconds=round(prediction.seconds, 4),
        note=prediction.note,
    )
