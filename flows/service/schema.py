"""What a request may hold, and how that and its answers look in the OpenAPI description."""

from collections.abc import Sequence
from typing import Annotated, Any

from annotated_types import Len
from fastapi.exceptions import HTTPException
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cclm_core.runtime.errors import DataError
from cclm_core.runtime.readers import parse_json
from flows.service.batching import Method, num_characters
from flows.service.config import ServiceConfig
from flows.service.metrics import CONTENT_TYPE
from flows.service.predictors import Predictor, Text

PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


class TextsRequest(BaseModel):
    """Texts for a model."""

    model_config = ConfigDict(extra="forbid", strict=True)

    texts: list[str | Annotated[list[str], Len(2, 2)]] = Field(
        description="strings; for a model of pairs, lists of two strings"
    )
    model: str | None = Field(
        default=None, description="NAME or NAME@ALIAS; may be left out if only one model is served"
    )


class _Answer(BaseModel):
    model: str = Field(description="the model, as in GET /models")
    version: str = Field(description="the version that has computed this answer")


class Predictions(_Answer):
    """One prediction per text, in the same order."""

    predictions: list[dict[str, Any]] = Field(
        description='{"label", "score", "scores"}, {"labels", "scores"}, {"value"} or {"entities"}'
    )


class Embeddings(_Answer):
    """One embedding per text, in the same order."""

    embeddings: list[list[float]] = Field(description="(N, W): the mean over the characters of each text")


class ModelDescription(BaseModel):
    """A model that is served."""

    model: str
    version: str
    kind: str
    digest: str
    task: str | None = Field(description="what it predicts, such as `classify`; null if it only embeds")
    is_pair: bool = Field(description="whether /predict takes pairs of texts")
    labels: list[str]
    width: int = Field(description="numbers in an embedding; 0: it has none")
    since: str = Field(description="when this version was loaded, in UTC")
    problem: str | None = Field(description="why a newer version is not served; or null")


class ModelList(BaseModel):
    """All models."""

    models: list[ModelDescription]


class Health(BaseModel):
    """Whether the service is up."""

    status: str = Field(description="`ok`; `degraded` if a newer version of a model exists and cannot be served")
    ready: bool = Field(description="whether it takes requests")


class Error(BaseModel):
    """Why a request was refused."""

    error: str


ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"model": Error, "description": "the token is missing or wrong"},
    403: {"model": Error, "description": "Host or Origin names another machine"},
    404: {"model": Error, "description": "no such path or model"},
    500: {"model": Error, "description": "the model or the server failed"},
}
"""Of every route."""

BODY_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": Error, "description": "not JSON, or not a request that this model can answer"},
    408: {"model": Error, "description": "the body took too long to arrive"},
    413: {"model": Error, "description": "the body, the number of texts or a text is too large"},
    422: {"model": Error, "description": "a field is missing, unknown or of the wrong type"},
    503: {"model": Error, "description": "too many requests wait, or it took too long; see Retry-After"},
}
"""Of the routes that read a body."""

_ANSWERS: dict[str, tuple[type[BaseModel], dict[str, Any]]] = {
    "predict": (
        Predictions,
        {
            "model": "intent@champion",
            "version": "3",
            "predictions": [{"label": "refund", "score": 0.93}, {"label": "greeting", "score": 0.88}],
        },
    ),
    "embed": (Embeddings, {"model": "full@champion", "version": "7", "embeddings": [[0.25, -1.5], [0.0, 0.0]]}),
    "models": (
        ModelList,
        {
            "models": [
                {
                    "model": "intent@champion",
                    "version": "3",
                    "kind": "task",
                    "digest": "9f2c41d0...",
                    "task": "classify",
                    "is_pair": False,
                    "labels": ["greeting", "refund"],
                    "width": 384,
                    "since": "2026-11-28T02:10:00Z",
                    "problem": None,
                }
            ]
        },
    ),
    "health": (Health, {"status": "ok", "ready": True}),
}
_EXAMPLES = {
    "predict": {"texts": ["where is my mony", "hello"], "model": "intent"},
    "embed": {"texts": ["teh cat", ""], "model": "full@champion"},
}


def body(name: str) -> dict[str, Any]:
    """The description of the body of a request."""
    content = {"schema": TextsRequest.model_json_schema(), "example": _EXAMPLES[name]}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def answer(name: str) -> dict[int | str, dict[str, Any]]:
    """The description of a good answer."""
    if name not in _ANSWERS:
        return {200: {"content": {CONTENT_TYPE.partition(";")[0]: {}}, "description": "as Prometheus reads them"}}
    model, example = _ANSWERS[name]
    content = {"application/json": {"example": example}} if example else {}
    return {200: {"model": model, "content": content, "description": str(model.__doc__)}}


def parse_texts(content: bytes, config: ServiceConfig) -> tuple[str | None, list[Text]]:
    """The name of the model, if the request has one, and the texts.

    Args:
        content: the body of the request.
        config: the limits.

    Raises:
        HTTPException: 400, 413 or 422, with the field.
    """
    try:
        value = parse_json(content, "the body", DataError, 'Send {"texts": ["a text", ...]}.')
    except DataError as error:
        raise HTTPException(400, str(error)) from None
    texts = value.get("texts") if isinstance(value, dict) else None
    if isinstance(texts, list) and len(texts) > config.max_texts:
        raise HTTPException(413, f"`texts` must have at most {config.max_texts:,} texts, got {len(texts):,}.")
    try:
        request = TextsRequest.model_validate(value)
    except ValidationError as error:
        raise HTTPException(422, _explain(error)) from None
    checked: list[Text] = [text if isinstance(text, str) else (text[0], text[1]) for text in request.texts]
    for index, text in enumerate(checked):
        if (size := num_characters(text)) > config.max_characters:
            raise HTTPException(
                413, f"`texts[{index}]` must have at most {config.max_characters:,} characters, got {size:,}."
            )
    return request.model, checked


def check_method(method: Method, texts: Sequence[Text], predictor: Predictor, key: str) -> None:
    """Checks that a model can do what a request asks for.

    Raises:
        HTTPException: 400; it only embeds, or has no embeddings, or the texts must or must not be pairs.
    """
    if method == "predict" and predictor.task is None:
        raise HTTPException(
            400,
            f"{key} is a {predictor.kind}, which has nothing to predict. POST to /embed, or ask for a model of a task.",
        )
    if method == "embed" and not predictor.width:
        raise HTTPException(400, f"{key} has no embeddings. POST to /predict, or ask for a composition or a network.")
    needs_pairs = method == "predict" and predictor.is_pair
    for index, text in enumerate(texts):
        if isinstance(text, str) == needs_pairs:
            expected = "a list of two strings, because the model reads pairs" if needs_pairs else "a string"
            raise HTTPException(400, f"`texts[{index}]` must be {expected}.")


def _explain(error: ValidationError) -> str:
    """The first problem, with its field."""
    problem = error.errors(include_url=False, include_context=False)[0]
    path, given = problem["loc"], f"{problem['input']!r:.80}"
    if not path:
        return f'the body must be an object like {{"texts": ["a text", ...]}}, got {given}.'
    if problem["type"] == "extra_forbidden":
        return f"the body must have only the keys `texts` and `model`, got {str(path[0])[:80]!r}."
    if problem["type"] == "missing":
        return "`texts` is missing. It must be a list of strings."
    if path[0] == "model":
        return f"`model` must be a string, got {given}."
    if len(path) == 1:
        return f"`texts` must be a list of strings, got {given}."
    return f"`texts[{path[1]}]` must be a string, or a list of two strings, got {given}."
