"""tools.serve as a process of its own, with a two-layer model: answers, limits, many requests at once."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

from cleantune.data import tables
from cleantune.evaluation import metrics, threshold
from cleantune.evaluation.threshold import Decision
from cleantune.models import classifier, weights
from tests import evaluated
from tests.conftest import REPOSITORY
from tests.tools.calling import call
from tools import predict, serve
from tools.predict_output import Prediction
from tools.serve_batches import Batches, Full

TEXTS = [
    "coach praised the season",
    "treaty of the border",
    "",
    "<b>profit</b> \u202e market ☃ " * 40,
    "the",
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models/finetuned, a temperature, and a confidence that one of the texts has not."""
    made, alone = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("alone")
    evaluated.write(made)
    shutil.copytree(made / tables.FINETUNED, alone / tables.FINETUNED)
    model = classifier.load(alone / tables.FINETUNED)
    logits = model.logits(model.encode([text for text in TEXTS if text]))
    lowest, second, *_ = np.sort(metrics.softmax(logits, 2.0).max(axis=1))
    decision = Decision(temperature=2.0, documents=50, answer_accuracy=0.9,
                        answer_above=float(lowest + second) / 2)  # fmt: skip
    threshold.write(alone / tables.DECISION, [(decision, weights.of(alone / tables.FINETUNED))])
    return alone


@contextmanager
def serving(folder: Path, *arguments: str, **environment: str) -> Iterator[int]:
    """Serve the model of a folder; yield the port."""
    command = [sys.executable, "-m", "tools.serve", "--port", "0", *arguments]
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True,
                              env=os.environ | environment)  # fmt: skip
    assert server.stdout
    line = server.stdout.readline()
    yield int(line.split("(")[0].strip().rpartition(":")[2])
    server.send_signal(signal.SIGINT)
    assert server.wait(20) in (0, 130), "it ends when interrupted"


@pytest.fixture(scope="module")
def port(project: Path) -> Iterator[int]:
    """Where a server answers."""
    with serving(project) as port:
        yield port


async def ask(port: int, method: str, path: str, body: bytes = b"") -> tuple[int, str]:
    """Send one request on a connection of its own; return status and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (f"{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n")  # fmt: skip
    writer.write(head.encode() + body)
    answer = await reader.read()
    writer.close()
    top, _, content = answer.partition(b"\r\n\r\n")
    return int(top.split()[1]), content.decode()


def post(port: int, query: Any) -> tuple[int, Any]:
    body = query if isinstance(query, bytes) else json.dumps(query).encode()
    status, content = asyncio.run(ask(port, "POST", "/predict", body))
    return status, json.loads(content)


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two answers are the same but for rounding in another batch."""
    p, q = one.pop("probabilities"), other.pop("probabilities")
    sure = one.pop("confidence"), other.pop("confidence")
    return one == other and p == pytest.approx(q, abs=2e-6) and sure[0] == pytest.approx(sure[1], abs=2e-6)  # fmt: skip


@pytest.mark.parametrize("abstain", [False, True])
def test_the_answers_are_those_of_predict_alone_or_together(
    project, port, monkeypatch, capsys, abstain
):
    monkeypatch.chdir(project)
    rows = [{"title": "Border", "text": TEXTS[0]}, *({"text": text} for text in TEXTS)]
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    option = ["--abstain"] if abstain else []
    arguments = ["--file", "in.jsonl", "--title", "title", "--json", *option]
    _, out, _ = call(predict, arguments, monkeypatch, capsys)
    expected = [{k: v for k, v in json.loads(line).items() if k not in ("text", "title")}
                for line in out.splitlines()]  # fmt: skip
    assert any(row.get("unsure") for row in expected) == abstain
    status, found = post(port, {"texts": [rows[0], *TEXTS], "abstain": abstain})
    assert status == 200

    async def each() -> list[tuple[int, str]]:
        bodies = [json.dumps({"texts": [row], "abstain": abstain}).encode() for row in rows]
        return await asyncio.gather(*(ask(port, "POST", "/predict", body) for body in bodies))

    single = [json.loads(content)["predictions"][0] for _, content in asyncio.run(each())]
    for one, other, third in zip(expected, found["predictions"], single, strict=True):
        assert equal(dict(one), dict(other))
        assert equal(dict(one), dict(third))


def test_the_words_are_explained_on_request(port):
    status, found = post(port, {"texts": TEXTS[:1], "explain": True, "top": 1})
    assert status == 200
    assert [word["word"] for word in found["predictions"][0]["words"]] == TEXTS[0].split()
    assert len(found["predictions"][0]["top"]) == 1


@pytest.mark.parametrize(("query", "status", "says"), [
    (b"{oops", 422, "not JSON, at character 1"),
    (b"\xff\xfe", 422, "not JSON"),
    (b"[" * 100_000, 400, "parsing the body"),
    ([], 422, "body: Input should be a valid dictionary"),
    ({"texts": []}, 422, "body.texts: List should have at least 1 item"),
    ({"texts": ["x"] * (serve.MOST_TEXTS + 1)}, 422, "at most 256 items"),
    ({"texts": [3]}, 422, "body.texts.0: Input should be a valid string"),
    ({"texts": ["x" * (serve.LONGEST_TEXT + 1)]}, 422, "body.texts.0: String should have at most 100000"),
    (b'{"texts": ["\\ud800"]}', 422, "body.texts.0"),
    ({"texts": ["x"], "size": 1}, 422, "body.size: Extra inputs are not permitted"),
    ({"texts": ["x"], "top": 0}, 422, "body.top"),
    ({"texts": ["x"] * 9, "explain": True}, 422, "explain takes at most 8 texts"),
    (b" " * (serve.MOST_BYTES + 1), 413, "more than 8,388,608 bytes"),
])  # fmt: skip
def test_a_bad_request_gets_a_clear_answer_and_the_server_goes_on(port, query, status, says):
    found, content = post(port, query)
    assert (found, says in content["detail"]) == (status, True), content
    assert post(port, {"texts": ["coach"]})[0] == 200


def test_a_thousand_requests_at_once_are_answered_while_a_client_hangs(port):
    async def all_at_once() -> list[tuple[int, str]]:
        return await asyncio.gather(*(
            ask(port, "POST", "/predict", json.dumps({"texts": [f"coach goal {i}"]}).encode())
            for i in range(1000)
        ))  # fmt: skip

    with socket.create_connection(("127.0.0.1", port)) as hanging:
        hanging.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        found = asyncio.run(all_at_once())
        assert json.loads(asyncio.run(ask(port, "GET", "/health"))[1]) == {
            "status": "ok",
            "waiting": 0,
        }
    assert {status for status, _ in found} == {200}


def test_the_model_is_described(port, project):
    about = json.loads(asyncio.run(ask(port, "GET", "/model"))[1])
    assert about["labels"] == evaluated.NAMES
    assert about["weights_sha256"] == weights.sha256(project / tables.FINETUNED)
    assert about["decision"]["temperature"] == 2
    paths = json.loads(asyncio.run(ask(port, "GET", "/openapi.json"))[1])["paths"]
    assert set(paths) == {"/predict", "/health", "/model"}


def test_a_port_in_use_is_said_so(project, port):
    command = [sys.executable, "-m", "tools.serve", "--port", str(port)]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"--port {port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_the_dockerfile_copies_serves_a_mounted_model_without_a_home(project, tmp_path):
    steps = [line.split() for line in (REPOSITORY / "Dockerfile").read_text().splitlines()]
    for _, source, target in (step for step in steps if step[:1] == ["COPY"]):
        if (REPOSITORY / source).is_dir():
            shutil.copytree(REPOSITORY / source, tmp_path / target)
    (tmp_path / "models").symlink_to(project / "models")
    (command,) = (json.loads(" ".join(step[1:])) for step in steps if step[:1] == ["CMD"])
    assert command[:3] == ["python", "-m", "tools.serve"]
    nowhere = {"HOME": "/nonexistent", "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    with serving(tmp_path, *command[3:], **nowhere) as port:
        assert post(port, {"texts": ["coach praised the season"]})[0] == 200


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_text_is_tried_on_the_page(port, scheme):
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    trouble: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(color_scheme=scheme, viewport={"width": 360, "height": 700})
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.goto(f"http://127.0.0.1:{port}/")
        page.fill("textarea", "bank shares merger <script>")
        page.check("#abstain")
        page.click("button")
        page.wait_for_selector("#answer h2")
        shown = page.inner_text("#answer")
        assert "Biz <b>&amp;</b>" in shown, "class names are text"
        assert page.locator("#answer tr").count() == 3
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        dark = (
            page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
        )
        assert dark == (scheme == "dark")
        browser.close()
    assert trouble == []


# ---- batches


def prediction(record: dict[str, Any]) -> Prediction:
    return Prediction(record["text"], {}, None, record["text"])


def test_what_waits_is_classified_together_and_a_failure_is_of_its_request_alone():
    sizes: list[int] = []

    def classify(documents: list[dict[str, Any]]) -> list[Prediction]:
        sizes.append(len(documents))
        if any(d["text"] == "bad" for d in documents):
            raise ValueError("bad")
        return [prediction(d) for d in documents]

    async def many() -> list[Any]:
        batches = Batches(classify)
        task = asyncio.create_task(batches.run())
        names = [*"abcdefg", "bad", "h"]
        jobs = (batches.predict([{"text": name}, {"text": name * 2}]) for name in names)
        found = await asyncio.gather(*jobs, return_exceptions=True)
        assert batches.waiting == 0
        task.cancel()
        return found

    found = asyncio.run(many())
    assert isinstance(found.pop(7), ValueError)
    assert [[p.label for p in each] for each in found] == [[c, c * 2] for c in "abcdefgh"]
    assert sizes[0] == 18, "together"


def test_when_too_many_wait_a_request_is_refused_but_never_the_first(monkeypatch):
    monkeypatch.setattr("tools.serve_batches.MOST_WAITING", 3)

    async def many() -> list[Any]:
        batches = Batches(lambda documents: [prediction(d) for d in documents])
        first = asyncio.create_task(batches.predict([{"text": "x"}] * 5))
        await asyncio.sleep(0)
        with pytest.raises(Full):
            await batches.predict([{"text": "y"}])
        task = asyncio.create_task(batches.run())
        found = await first
        task.cancel()
        return found

    assert len(asyncio.run(many())) == 5
