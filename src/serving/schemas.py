"""What goes over the API's wire, as JSON; the OpenAPI page shows these shapes."""

from pydantic import BaseModel, Field

from src.inference.predictor import Prediction, PredictionError

DIGITS = 4  # of attention


class AttentionSchema(BaseModel):
    """Where each word of a caption looked, as docs/details.schema.json has it."""

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
        description="null where not asked for, or the model's decoder does not attend"
    )


class PredictionSchema(BaseModel):
    """What a model says of a photo."""

    name: str = Field(description="the file's name, as sent")
    mos: float | None = Field(description="in the training data's units; null of a model without mos")
    place: float | None = Field(description="part of the training photos whose mos is lower, 0 to 1")
    captions: list[CaptionSchema] = Field(description="the best first; none of a model without captions")
    seconds: float = Field(description="from bytes to answer; of photos answered together, an equal share")
    note: str = Field(description="what was done to the photo that its owner may not expect; empty: nothing")


class ErrorSchema(BaseModel):
    """A photo that cannot be answered."""

    name: str = Field(description="the file's name, as sent")
    error: str = Field(description="why, on one line")


class ModelSchema(BaseModel):
    """A model that is served."""

    name: str
    mos: bool = Field(description="whether it tells mos")
    captions: bool = Field(description="whether it writes captions")
    attention: bool = Field(description="whether it can tell where each word looked")
    styles: list[str] = Field(description="of its captions, by data set")
    beam: int = Field(description="captions kept at each step where a request does not say")


class RefusalSchema(BaseModel):
    """Why a request was refused."""

    detail: str


def prediction_to_json(name: str, found: Prediction | PredictionError, beams: int) -> PredictionSchema | ErrorSchema:
    """An answer as the API gives it, with so many of its captions."""
    if isinstance(found, PredictionError):
        return ErrorSchema(name=name, error=found.reason)
    captions = []
    for one in found.captions[:beams]:
        looks = None if one.attention is None else one.attention[:-1].astype(float).round(DIGITS).tolist()
        attention = None if looks is None else AttentionSchema(words=one.words, weights=looks)
        captions.append(CaptionSchema(text=one.text, score=one.score, attention=attention))
    seconds = round(found.seconds, 4)
    return PredictionSchema(
        name=name, mos=found.mos, place=found.place, captions=captions, seconds=seconds, note=found.note
    )
