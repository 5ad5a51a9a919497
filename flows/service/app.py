"""The routes of a service, and what its answers look like."""

import asyncio
import time
import traceback
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import HTTPException
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from cclm_core.runtime.errors import DataError
from flows.servers.guard import LOOPBACK, App, Guard
from flows.service import schema
from flows.service.batching import Method, QueueFullError
from flows.service.config import ServiceConfig
from flows.service.limits import Limited
from flows.service.metrics import CONTENT_TYPE, ROUTES, Counted, Metrics
from flows.service.models import Models, ServedModel, UnknownModelError
from flows.service.page import page
from flows.service.predictors import Text

OPEN_PATHS = ("/health",)
_LARGE = 50_000  # bytes or numbers: parsed or written in another thread, so that other requests do not wait
_RETRY = {"Retry-After": "1"}


def build(models: Models, config: ServiceConfig, metrics: Metrics, token: str | None) -> App:
    """The ASGI application of a service: its routes behind limits, credentials and counters.

    Args:
        models: are watched for newer versions while it runs, and closed when it ends.
        config: of the service.
        metrics: of the service.
        token: what requests must send; None: nothing.
    """
    app = _routes(models, config, metrics)
    limited = Limited(app, config.max_bytes, config.client_seconds)
    return Counted(Guard(limited, token, {*LOOPBACK, *config.allowed_hosts}, OPEN_PATHS), metrics)


def _routes(models: Models, config: ServiceConfig, metrics: Metrics) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        """Watches the models while the service runs; ends their threads when all requests were answered."""
        models.watch(asyncio.get_running_loop())
        yield
        await asyncio.to_thread(models.close)

    app = FastAPI(
        title="cclm serve",
        summary="Predictions and embeddings of texts.",
        version="1",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's pages load scripts from another server; `page` needs none
        redoc_url=None,
        responses=schema.ERRORS,
    )
    bodies = schema.BODY_ERRORS
    answering = Answering(models, config)

    @app.post("/predict", openapi_extra=schema.body("predict"), responses=schema.answer("predict") | bodies)
    async def predict(request: Request) -> Response:
        """Predict the label, labels, value or entities of each text, with a model of a task."""
        return await answering.answer("predict", await request.body())

    @app.post("/embed", openapi_extra=schema.body("embed"), responses=schema.answer("embed") | bodies)
    async def embed(request: Request) -> Response:
        """Embed each text: one vector, the mean over its characters; zeros for an empty text."""
        return await answering.answer("embed", await request.body())

    @app.get("/models", responses=schema.answer("models"))
    async def list_models() -> Response:
        """List the models, their versions, and why a newer version is not served."""
        return _json({"models": [_description(model) for model in models.by_key.values()]})

    @app.get("/health", responses=schema.answer("health"))
    async def health() -> Response:
        """Tell whether the service is up. Needs no token; GET /models has the details."""
        return _json({"status": "degraded" if models.problems else "ok", "ready": True})

    @app.get("/metrics", responses=schema.answer("metrics"))
    async def show_metrics() -> Response:
        """Report metrics in Prometheus' text format."""
        return Response(metrics.render(), media_type=CONTENT_TYPE)

    @app.get("/docs", include_in_schema=False)
    async def show_page(request: Request) -> HTMLResponse:
        """This page."""
        return HTMLResponse(
            page(app.openapi(), str(request.base_url)), headers={"Content-Security-Policy": schema.PAGE_POLICY}
        )

    _handle_errors(app)
    return app


class Answering:
    """Turns the body of a request into an answer.

    Args:
        models: the models to choose from.
        config: the limits.
    """

    def __init__(self, models: Models, config: ServiceConfig) -> None:
        self._models, self._config = models, config

    async def answer(self, method: Method, body: bytes) -> Response:
        """Answers POST /predict or POST /embed.

        Raises:
            HTTPException: the request is refused, or the model fails.
        """
        if len(body) > _LARGE:
            name, texts = await asyncio.to_thread(schema.parse_texts, body, self._config)
        else:
            name, texts = schema.parse_texts(body, self._config)
        try:
            model = self._models.get(name)
        except UnknownModelError as error:
            raise HTTPException(404 if name else 400, str(error)) from None
        schema.check_method(method, texts, model.current.predictor, model.key)
        version, values = await self._computed(model, method, texts)
        content = {"model": model.key, "version": version, _NOUNS[method]: values}
        if getattr(values, "size", 0) > _LARGE:
            return await asyncio.to_thread(_json, content)
        return _json(content)

    async def _computed(self, model: ServedModel, method: Method, texts: Sequence[Text]) -> tuple[str, Any]:
        """The version that has computed the values, and one value per text."""
        loaded = model.current  # from here to `submit` nothing waits, so the batcher is open
        try:
            waiting = loaded.batcher.submit(method, texts)
            async with asyncio.timeout(self._config.max_seconds):
                return loaded.version, await waiting
        except QueueFullError as error:
            raise HTTPException(503, str(error), _RETRY) from None
        except TimeoutError:
            message = f"no answer within {self._config.max_seconds:g} s. Send fewer texts, or try again later."
            raise HTTPException(503, message, _RETRY) from None
        except DataError as error:
            raise HTTPException(400, str(error)) from None
        except Exception:  # noqa: BLE001 - whatever the model raised, the client must not see it
            traceback.print_exc()
            raise HTTPException(500, "the model failed; the output of the server has the reason.") from None


_NOUNS: dict[Method, str] = {"predict": "predictions", "embed": "embeddings"}


def _description(model: ServedModel) -> dict[str, Any]:
    predictor = model.current.predictor
    return {
        "model": model.key,
        "version": model.current.version,
        "kind": predictor.kind,
        "digest": predictor.digest,
        "task": predictor.task,
        "is_pair": predictor.is_pair,
        "labels": predictor.labels,
        "width": predictor.width,
        "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(model.current.since)),
        "problem": model.problem or None,
    }


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(StarletteHTTPException)
    async def refuse(_: Request, error: StarletteHTTPException) -> Response:
        """An error that the client can do something about."""
        message = error.detail
        if error.status_code == 404 and message == "Not Found":  # Starlette's; ours name the model
            message = f"the paths are {', '.join(ROUTES)}."
        elif error.status_code == 405:
            message = "the method must be POST for /predict and /embed, and GET for the other paths."
        return _json({"error": message}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def fail(_: Request, error: Exception) -> Response:
        """An error of ours. Uvicorn logs its traceback."""
        del error
        return _json({"error": "the server failed; its output has the reason."}, 500)


def _json(value: Any, status: int = 200, headers: Any = None) -> Response:
    content = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    plain = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
    return Response(content, status, plain | dict(headers or {}), "application/json")
