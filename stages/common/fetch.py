"""Bringing a file here whole: from a path, over HTTP, or from the Hugging Face Hub.

An HTTP transfer that breaks goes on where it stopped, in this run or the next: what has come so
far is kept in a folder of its own with the validator (ETag or Last-Modified) of the file it came
from, and the rest is asked for with ``Range`` and ``If-Range`` (RFC 9110, sections 13 and 14), so
a server without ranges, or with another file by now, sends it from the start.
"""

import hashlib
import json
import os
import time
from pathlib import Path
from urllib.parse import urlsplit

import requests

from stages.common import console, files
from stages.common.errors import UserError

TRIES = 5  # in a row that bring nothing; one that brings bytes counts anew
FIRST_PAUSE_S = 0.5  # before the second try, doubled before each further one
TIMEOUT_S = (10, 60)  # to connect, between two bytes
CHUNK = 1 << 18  # bytes


class UnreachableError(UserError):
    """The source could not be reached; another source may do."""


def is_url(path: str) -> bool:
    """Tell an http(s) URL from a path on this machine."""
    return urlsplit(path).scheme.lower() in {"http", "https"}


def from_url(url: str, folder: Path, sha256: str | None = None) -> Path:
    """Return the file behind ``url``, complete and checked, in ``folder``.

    ``folder`` keeps what has come so far; the caller removes it when done with the file.
    Raises ``UnreachableError`` when the transfer does not end, ``UserError`` when the bytes are wrong.
    """
    key = hashlib.sha256(url.encode()).hexdigest()[:16]
    whole, part, about = (folder / f"{key}{ending}" for ending in ("", ".part", ".json"))
    folder.mkdir(parents=True, exist_ok=True)
    resumed = part.exists() and part.stat().st_size > 0
    if not whole.exists():
        _transfer(url, part, about)
        if resumed and sha256 and files.sha256(part) != sha256:
            part.unlink()  # the kept beginning may be what is wrong: once more from the start
            _transfer(url, part, about)
        part.replace(whole)
    try:
        check(whole, sha256, url)
    except UserError:
        whole.unlink()
        raise
    return whole


def check(path: Path, sha256: str | None, name: str) -> str:
    """Return the SHA-256 of a file; ``UserError`` when it is empty or not the one expected."""
    found = files.sha256(path)
    if path.stat().st_size == 0:
        raise UserError(f"{name} is empty (0 bytes). Put the corpus there, or correct the path.")
    if sha256 and found != sha256:
        raise UserError(
            f"{name} has sha256\n  {found}, not the expected\n  {sha256}.\nIt was changed or "
            "damaged. Fetch it again; if the new content is meant, put its sha256 in params.yaml."
        )
    return found


def from_hub(repo: str, revision: str, filename: str) -> Path:
    """Return one file of a dataset repository at a pinned commit, from the Hub or its cache.

    The Hub names a large file by the SHA-256 of its bytes, and that is checked. Only the named
    file is fetched; nothing of the repository is executed. ``UnreachableError`` when it can't be had.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if not console.console.is_terminal:
        disable_progress_bars()
    name = f"{repo}@{revision[:8]}/{filename}"
    try:
        path = Path(hf_hub_download(repo, filename, repo_type="dataset", revision=revision))
    except (OSError, ValueError) as error:  # all that the Hub's client raises derives from these
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UnreachableError(f"{name} could not be fetched from the Hub: {reason[0]}") from None
    etag = path.resolve().name
    try:
        check(path, etag if len(etag) == 64 else None, name)
    except UserError:
        path.resolve().unlink()  # or the cache would hand it out for ever
        raise
    return path


def _transfer(url: str, part: Path, about: Path) -> None:
    """Bring ``part`` to full length, over as many connections as that takes."""
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            return _one_connection(url, part, about, before)
        except requests.RequestException as error:
            status = error.response.status_code if error.response is not None else 0
            got = part.stat().st_size if part.exists() else 0
            failures = 1 if got > before else failures + 1
            if failures >= TRIES or (400 <= status < 500 and status not in {408, 416, 429}):
                raise UnreachableError(
                    f"{url} could not be fetched: {_reason(error)}. {got:,} bytes have come and "
                    "are kept. Check the URL and the network; the same command goes on from there."
                ) from None
            console.say(f"{url}: {_reason(error)} after {got:,} bytes; trying again")
            time.sleep(FIRST_PAUSE_S * 2 ** (failures - 1))


def _one_connection(url: str, part: Path, about: Path, have: int) -> None:
    headers = {"Accept-Encoding": "identity"}  # the sha256 is of the file, not of its compression
    validator = json.loads(about.read_text())["validator"] if have and about.exists() else None
    if validator:
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
        if response.status_code == 416:
            part.unlink()  # the file is shorter than what we hold: start over
        response.raise_for_status()
        begins = f"bytes {have}-"
        goes_on = response.status_code == 206
        if goes_on and not response.headers.get("Content-Range", "").startswith(begins):
            part.unlink()
            raise requests.ConnectionError("the server sent another range than was asked for")
        etag = response.headers.get("ETag", "")
        weak = etag.startswith("W/")
        validator = (None if weak else etag) or response.headers.get("Last-Modified")
        files.write_json(about, {"url": url, "validator": validator})
        have = have if goes_on else 0
        total = have + int(response.headers.get("Content-Length") or 0)
        with part.open("ab" if goes_on else "wb") as file, console.Bar(url[-40:], total) as bar:
            bar.advance(have)
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                bar.advance(len(chunk))


def _reason(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"HTTP status {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return f"no answer within {TIMEOUT_S[1]} s"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke"
    return f"no connection ({type(error).__name__})"
