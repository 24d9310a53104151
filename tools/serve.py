"""Serve the trained model over HTTP: the answers of tools.predict, for one text or many.

    python -m tools.serve [--int8] [--port 8000]
    curl localhost:8000/predict --json '{"texts": ["Sony opens a chip plant"]}'

`/` is a page to try a text, `/docs` describes the requests (OpenAPI), `/health` and `/model` say whether
and what is served. Texts are repaired as those of the training were; temperature, decision threshold
and when to abstain are those that evaluate fitted. Requests that arrive together are computed together.
"""

import argparse
import asyncio
import base64
import hashlib
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from cleantune import console
from cleantune.data import tables
from cleantune.errors import UserError
from cleantune.models import weights
from tools import predict, predict_input
from tools.serve_batches import Batches, Full

with console.optional():
    import uvicorn
    from fastapi import FastAPI, HTTPException, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import HTMLResponse, JSONResponse, Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_TEXTS = 256  # of a request
MOST_EXPLAINED = 8
LONGEST_TEXT = 100_000  # characters
MOST_BYTES = 8 * 2**20  # of a request
BODY_SECONDS = 20.0  # in which it has to arrive
PAGE = Path(__file__).with_name("serve_page.html")
CARD = Path("reports/model_card.md")

Text = Annotated[str, Field(max_length=LONGEST_TEXT)]


class Document(BaseModel):
    """A text with a title, which the training read before it."""

    model_config = ConfigDict(extra="forbid")
    title: Text = ""
    text: Text


class Query(BaseModel):
    """Texts to classify."""

    model_config = ConfigDict(extra="forbid")
    texts: Annotated[list[Text | Document], Field(min_length=1, max_length=MOST_TEXTS)]
    abstain: bool = False
    """Be unsure where evaluate.answer_accuracy is not reached."""
    explain: bool = False
    """Add what each word contributed to the score; of few texts, which takes longer."""
    top: Annotated[int, Field(ge=1)] | None = None
    """Only so many classes, the most probable."""


class Answer(BaseModel):
    """What ``tools.predict --json`` says of each text, in the order of the texts."""

    predictions: list[dict[str, Any]]


class Limits:
    """Passes a request on when all of it has arrived, in time and not larger than ``MOST_BYTES``."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body, then call the application."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body, more = bytearray(), True
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > MOST_BYTES:
                        await _refuse(413, f"the request has more than {MOST_BYTES:,} bytes")(
                            scope, receive, send
                        )
                        return
        except TimeoutError:
            await _refuse(408, f"the request did not arrive in {BODY_SECONDS:g} seconds")(
                scope, receive, send
            )
            return
        whole: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def again() -> Message:
            return whole.pop() if whole else await receive()

        await self.app(scope, again, send)


def _refuse(status: int, why: str, **headers: str) -> JSONResponse:
    return JSONResponse({"detail": why}, status, headers | {"connection": "close"})


def application(folder: Path, int8: bool) -> FastAPI:
    """Return the web application that serves the model in ``folder``.

    Raises ``UserError`` when the model cannot be loaded.
    """
    model = predict.load(folder, int8)
    steps, decided = predict_input.steps_of(folder), predict.decide(model, folder, int8)
    about = {"model": folder.name, "weights_sha256": weights.sha256(folder), "int8": int8,
             "labels": model.labels, "reads": model.reading.describe(), "decision": asdict(decided),
             "card": _card(folder)}  # fmt: skip
    html, policy = _page()
    # Whether to be unsure is computed for all, and dropped for those who did not ask.
    batches = Batches(lambda documents: predict.predict(
        model, documents, steps, decided, abstain=decided.answer_above is not None))  # fmt: skip

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(batches.run())
        yield
        task.cancel()

    app = FastAPI(title="Cleantune", description=f"Text classification: {', '.join(model.labels)}.",
                  lifespan=lifespan)  # fmt: skip
    app.add_middleware(Limits)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            why = f"not JSON, at character {first['loc'][-1]}: {first['ctx']['error']}"
        else:  # of a text that is neither of what it may be, the first of them
            named = (
                str(part) for part in first["loc"] if part not in ("constrained-str", "Document")
            )
            why = f"{'.'.join(named)}: {first['msg']}"
        return JSONResponse({"detail": why}, 422)

    @app.post("/predict", response_model=Answer)
    async def predict_texts(query: Query) -> JSONResponse:
        """Classify texts."""
        if query.abstain:
            try:
                predict.raise_if_always_unsure(decided)
            except UserError as error:
                raise HTTPException(409, str(error).replace("--abstain", "abstain")) from None
        if query.explain and int8:
            raise HTTPException(409, "explain needs gradients, which the int8 model has none of")
        if query.explain and len(query.texts) > MOST_EXPLAINED:
            raise HTTPException(422, f"explain takes at most {MOST_EXPLAINED} texts at once")
        documents = [{"text": t} if isinstance(t, str) else t.model_dump() for t in query.texts]
        try:
            predictions = await batches.predict(documents)
        except Full:
            raise HTTPException(503, "too many texts are waiting", {"retry-after": "1"}) from None
        answers = []
        for prediction in predictions:
            asked = prediction if query.abstain else replace(prediction, unsure=None)
            answers.append(asked.as_json(query.top))
            if query.explain:
                answers[-1] |= await batches.compute(predict.explained, model, prediction)
        return JSONResponse({"predictions": answers})

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Say that the model is loaded and how many texts wait."""
        return {"status": "ok", "waiting": batches.waiting}

    @app.get("/model")
    async def describe() -> dict[str, Any]:
        """Return the classes, what was fitted on validation, and the model card."""
        return about

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return HTMLResponse(html, headers={"content-security-policy": policy})

    return app


def _card(folder: Path) -> str | None:
    """Return the model card: that of an export, or the one that evaluate wrote about these weights."""
    if (folder / "README.md").is_file():
        return (folder / "README.md").read_text(encoding="utf-8")
    card = CARD.read_text(encoding="utf-8") if CARD.is_file() else ""
    return card if weights.sha256(folder) in card else None


def _page() -> tuple[str, str]:
    """Return the page and the policy that allows its own script and style alone."""
    html = PAGE.read_text(encoding="utf-8")
    allowed = []
    for tag in ("script", "style"):
        content = re.search(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = hashlib.sha256(content[1].encode() if content else b"").digest()
        allowed.append(f"{tag}-src 'sha256-{base64.b64encode(digest).decode()}'")
    return html, f"default-src 'none'; connect-src 'self'; img-src data:; {'; '.join(allowed)}"


def main() -> None:
    """Load the model, then answer until interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.serve", description="Serve the trained model over HTTP."
    )
    parser.add_argument("--model", type=Path, default=tables.FINETUNED,
                        help="the model's folder (default: %(default)s)")  # fmt: skip
    parser.add_argument("--int8", action="store_true",
                        help="compute with 8-bit integers: faster, nearly as accurate")  # fmt: skip
    parser.add_argument("--host", default="127.0.0.1",
                        help="address to listen on; 0.0.0.0: all (default: %(default)s)")  # fmt: skip
    parser.add_argument("--port", type=int, default=8000, help="(default: %(default)s)")
    arguments = parser.parse_args()
    with _listen(arguments.host, arguments.port) as listening:
        app = application(arguments.model, arguments.int8)
        host, port = listening.getsockname()[:2]
        print(f"serving {arguments.model} on http://{host}:{port} (Ctrl-C ends)", flush=True)
        config = uvicorn.Config(
            app, access_log=False, log_level="warning", timeout_graceful_shutdown=5
        )  # a client that hangs holds up no end
        uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket at the address; ``UserError`` when it is taken or not ours."""
    try:
        return socket.create_server((host, port), backlog=2048)
    except (OSError, OverflowError) as error:
        raise UserError(f"--host {host} --port {port}: {error}; name another.") from None


if __name__ == "__main__":
    console.run(main)
