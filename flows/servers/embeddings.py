"""`python -m flows.servers.embeddings FOLDER PORT`: answers POST /invocations with embeddings by a registered model.

The process imports nothing of this project except `Guard`: the model brings its own copy of the library. It is not
`mlflow models serve`, which turns null, numbers and nested lists into strings before the model can refuse them, has no
limits, and asks for no credentials.

A request is one JSON object: `inputs` (a list of strings) or a table with the column `text` (`dataframe_split`,
`dataframe_records`), and `params`. The answer is `{"predictions": [...]}`, or `{"error": "..."}` with status 400 (wrong
input), 401, 403, 404, 405, 408 (the body took too long), 413 (too large), 500, or 503 (too many requests wait).
"""

import asyncio
import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.servers.guard import Guard, Receive, Scope, Send, bound_socket, refuse

TOKEN_VARIABLE = "CCLM_SERVE_TOKEN"
LIMITS_VARIABLE = "CCLM_SERVE_LIMITS"
FORMATS = ("inputs", "instances", "dataframe_split", "dataframe_records")
COLUMN = "text"
BODY_SECONDS = 30.0
DROPPED_FACTOR = 100  # of a body beyond the limit, so much is read; then the connection is closed
MAX_WAITING = 16  # requests; one is computed at a time, with all cores
# The output `characters` has a row for each character instead of one for each text, so fewer are allowed.
CHARACTERS_SHARE = 10


class RequestError(Exception):
    """A request that is refused: an HTTP status and a message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Limits:
    """What one request may hold.

    Attributes:
        num_bytes: of the body.
        num_texts: texts.
        num_characters: characters in all texts together; a tenth for `output: characters`.
    """

    num_bytes: int = 1_000_000
    num_texts: int = 1_000
    num_characters: int = 100_000

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")


def parse_request(body: bytes, limits: Limits, param_names: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """The texts and parameters in the body of a request.

    Args:
        body: JSON.
        limits: what it may hold.
        param_names: parameters that the model knows.

    Raises:
        RequestError: 400 or 413.
    """
    value = _json(body)
    formats = [key for key in value if key in FORMATS]
    if len(formats) != 1 or value.keys() - {*FORMATS, "params"}:
        raise RequestError(
            400, f"the request must have one of {', '.join(FORMATS)}, and params, got {_names(value) or 'nothing'}."
        )
    texts = _texts(formats[0], value[formats[0]], limits)
    params = value.get("params", {})
    known = list(param_names)
    if not isinstance(params, dict) or params.keys() - set(known):
        raise RequestError(400, f"params must be an object with the keys {', '.join(known)}, got {_short(params)}.")
    if wrong := next((name for name in params if not isinstance(params[name], str)), None):
        raise RequestError(400, f"params: {wrong} must be a string, got {_short(params[wrong])}.")
    allowed = limits.num_characters // (CHARACTERS_SHARE if params.get("output") == "characters" else 1)
    if (total := sum(map(len, texts))) > allowed:
        raise RequestError(413, f"the texts must have at most {allowed:,} characters together, got {total:,}.")
    return texts, params


def _json(body: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """An object whose keys differ."""
        if len(made := dict(pairs)) != len(pairs):
            raise ValueError("a key appears twice in one object")
        return made

    def refuse_constant(name: str) -> None:
        """JSON has no NaN and no infinities."""
        raise ValueError(f"{name} is not JSON")

    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=unique, parse_constant=refuse_constant)
    except RecursionError:
        raise RequestError(400, "the body must be JSON; it is nested too deeply.") from None
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError, too
        raise RequestError(400, f"the body must be JSON in UTF-8: {str(error)[:200]}.") from None
    if not isinstance(value, dict):
        raise RequestError(400, f"the body must be a JSON object, got {_short(value)}.")
    return value


def _texts(kind: str, value: Any, limits: Limits) -> list[str]:
    if kind == "dataframe_split":
        if not isinstance(value, dict) or value.keys() - {"columns", "data", "index"}:
            raise RequestError(400, f"dataframe_split must be an object with columns and data, got {_short(value)}.")
        if value.get("columns") != [COLUMN]:
            got = _short(value.get("columns"))
            raise RequestError(400, f"dataframe_split: columns must be [{COLUMN!r}], got {got}.")
        rows = _list("dataframe_split: data", value.get("data"), limits)
        for index, row in enumerate(rows):
            if not isinstance(row, list) or len(row) != 1:
                raise RequestError(400, f"dataframe_split: row {index} must have one value, got {_short(row)}.")
        texts = [row[0] for row in rows]
    elif kind == "dataframe_records":
        rows = _list(kind, value, limits)
        for index, row in enumerate(rows):
            if not isinstance(row, dict) or row.keys() != {COLUMN}:
                raise RequestError(
                    400, f"dataframe_records: row {index} must be {{{COLUMN!r}: ...}}, got {_short(row)}."
                )
        texts = [row[COLUMN] for row in rows]
    else:
        texts = _list(kind, value, limits)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise RequestError(400, f"text {index} must be a string, got {_short(text)}.")
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise RequestError(400, f"text {index} must be Unicode; it has half of a surrogate pair.")
    return texts


def _list(name: str, value: Any, limits: Limits) -> list[Any]:
    if not isinstance(value, list):
        raise RequestError(400, f"{name} must be a list of strings, got {_short(value)}.")
    if len(value) > limits.num_texts:
        raise RequestError(413, f"the request must have at most {limits.num_texts:,} texts, got {len(value):,}.")
    return value


def _short(value: Any) -> str:
    try:
        text = json.dumps(value)
    except RecursionError:
        return "deeply nested JSON"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _names(value: Iterable[str]) -> str:
    return ", ".join(name[:40] for name in list(value)[:8])


class Server:
    """The ASGI application: `/invocations`, `/ping` and `/health`.

    Args:
        model: has `predict(texts, params)` and `metadata.signature`, as MLflow loads it.
        limits: of a request.
        folder: is deleted when the server ends.
    """

    def __init__(self, model: Any, limits: Limits, folder: Path | None = None) -> None:
        self.model, self.limits, self.folder = model, limits, folder
        schema = getattr(getattr(model.metadata, "signature", None), "params", None)
        self.param_names = [param.name for param in schema.params] if schema else []
        self.lock, self.waiting = asyncio.Lock(), 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, as ASGI defines it."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            answer = await self._answer(scope, receive)
        except RequestError as error:
            await refuse(send, error.status, str(error))
            return
        headers = [(b"content-type", b"application/json"), (b"x-content-type-options", b"nosniff")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown" and self.folder is not None:
                shutil.rmtree(self.folder, ignore_errors=True)
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    async def _answer(self, scope: Scope, receive: Receive) -> bytes:
        if scope["path"] in ("/ping", "/health"):
            return b'{"status": "ok"}'
        if scope["path"] != "/invocations":
            raise RequestError(404, "the paths are /invocations, /ping and /health.")
        if scope["method"] != "POST":
            raise RequestError(405, f"/invocations must be asked with POST, got {scope['method']}.")
        headers = {name.lower(): value for name, value in scope["headers"]}
        if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != b"application/json":
            raise RequestError(400, "the header Content-Type must be application/json.")
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await self._body(receive)
        except TimeoutError:
            raise RequestError(408, f"the body must arrive within {BODY_SECONDS:.0f} s.") from None
        texts, params = parse_request(body, self.limits, self.param_names)
        if self.waiting >= MAX_WAITING:
            raise RequestError(503, f"{MAX_WAITING} requests are waiting. Try again later.")
        self.waiting += 1
        try:
            async with self.lock:
                return await asyncio.to_thread(self._predict, texts, params)
        finally:
            self.waiting -= 1

    async def _body(self, receive: Receive) -> bytes:
        """The body. What exceeds the limit is read and dropped, because clients read no answer while they send."""
        chunks: list[bytes] = []
        size, more = 0, True
        while more and size <= DROPPED_FACTOR * self.limits.num_bytes:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise RequestError(400, "the client closed the connection.")
            chunk = message.get("body", b"")
            size += len(chunk)
            if size <= self.limits.num_bytes:
                chunks.append(chunk)
            else:
                chunks.clear()
            more = message.get("more_body", False)
        if size > self.limits.num_bytes:
            raise RequestError(413, f"the body must have at most {self.limits.num_bytes:,} bytes.")
        return b"".join(chunks)

    def _predict(self, texts: list[str], params: dict[str, str]) -> bytes:
        if not texts:
            return b'{"predictions": []}'
        try:
            return json.dumps({"predictions": self.model.predict(texts, params)}, allow_nan=False).encode("utf-8")
        except Exception as error:  # noqa: BLE001 - the model's code is not ours; the log has the traceback
            if isinstance(error, ValueError) and params:
                raise RequestError(400, str(error).splitlines()[0][:300]) from None
            import traceback

            traceback.print_exc()
            raise RequestError(500, "the model failed; the server's output has the reason.") from None


def main(folder: Path, port: int) -> int:
    """Serves the model in `folder` until SIGINT or SIGTERM, then deletes the folder; returns the exit code."""
    try:
        socket = bound_socket(port)
    except OSError as error:
        print(f"error: port {port} must be free: {error.strerror}. Choose another one with --port.", file=sys.stderr)
        return 2
    import mlflow.pyfunc
    import uvicorn

    limits = Limits(*json.loads(os.environ.get(LIMITS_VARIABLE, "[]")))
    os.chdir(folder.parent)  # MLflow unquotes absolute paths, so %2F in the project's path would become a slash
    server = Server(mlflow.pyfunc.load_model(folder.name), limits, folder)
    print(f"ready: http://127.0.0.1:{port}/invocations", file=sys.stderr, flush=True)
    config = uvicorn.Config(
        Guard(server, os.environ.get(TOKEN_VARIABLE)), log_level="warning", limit_concurrency=64, timeout_keep_alive=5
    )
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[socket])
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
