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

import httpx2

from cleantune import console, files
from cleantune.errors import UserError

TRIES = 5  # in a row that bring nothing; one that brings bytes counts anew
FIRST_PAUSE_S = 0.5  # before the second try, doubled before each further one
RETRIED = {408, 416, 425, 429}  # client errors worth a retry
CONNECT_S = 10
SILENCE_S = 60  # between two bytes


class UnreachableError(UserError):
    """The source could not be reached; another source may do."""


def is_url(path: str) -> bool:
    """Tell an http(s) URL from a path on this machine."""
    return urlsplit(path).scheme.lower() in {"http", "https"}


def from_url(url: str, folder: Path, sha256: str | None = None) -> Path:
    """Return the file behind ``url``, complete and checked, in ``folder``.

    ``folder`` keeps what has come so far; the caller removes it when done with the file.
    Raises ``UnreachableError`` when the transfer does not end, ``UserError`` when the bytes are
    wrong.
    """
    key = hashlib.sha256(url.encode()).hexdigest()[:16]
    file, about = folder / key, folder / f"{key}.json"
    folder.mkdir(parents=True, exist_ok=True)
    begun = _length(file) > 0
    if not (sha256 and begun and files.sha256(file) == sha256):
        _transfer(url, file, about)
        if sha256 and begun and files.sha256(file) != sha256:
            file.unlink()  # the kept beginning may be what is wrong: once more from the start
            _transfer(url, file, about)
    try:
        check(file, sha256, url)
    except UserError:
        file.unlink()
        raise
    return file


def check(path: Path, sha256: str | None, name: str) -> None:
    """Raise ``UserError`` for an empty file, and a file or folder whose SHA-256 is not the one expected."""
    if path.is_file() and path.stat().st_size == 0:
        raise UserError(f"{name} is empty (0 bytes). Put the corpus there, or correct the path.")
    if sha256 and (actual := files.sha256(path)) != sha256:
        raise UserError(
            f"{name} has sha256\n  {actual}, not the expected\n  {sha256}.\nIt was changed or "
            "damaged. Fetch it again; if the new content is meant, put its sha256 in params.yaml."
        )


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
    except (OSError, ValueError, httpx2.HTTPError) as error:  # all that the Hub's client raises
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
        before = _length(part)
        try:
            return _one_connection(url, part, about, before)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            got = _length(part)
            failures = 1 if got > before else failures + 1
            if failures >= TRIES or _is_final(error):
                kept = f"{got:,} bytes have come and are kept. " if got else ""
                raise UnreachableError(
                    f"{url} could not be fetched: {_reason(error)}. {kept}"
                    "Check the URL and the network, then run the same command again."
                ) from None
            console.say(f"{url}: {_reason(error)} after {got:,} bytes; trying again")
            time.sleep(FIRST_PAUSE_S * 2 ** (failures - 1))


def _one_connection(url: str, part: Path, about: Path, have: int) -> None:
    headers = {"Accept-Encoding": "identity"}  # the sha256 is of the file, not of its compression
    validator = json.loads(about.read_text())["validator"] if have and about.exists() else None
    if validator:
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    timeout = httpx2.Timeout(SILENCE_S, connect=CONNECT_S)
    with httpx2.stream(
        "GET", url, headers=headers, timeout=timeout, follow_redirects=True
    ) as response:
        if response.status_code == 416:
            if response.headers.get("Content-Range") == f"bytes */{have}":
                return  # nothing is missing, and the server still has the version we hold
            part.unlink()
        response.raise_for_status()
        goes_on = response.status_code == 206
        if goes_on and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink()
            raise httpx2.RemoteProtocolError("the server sent another range than was asked for")
        have = have if goes_on else 0
        files.write_json(about, {"url": url, "validator": _validator(response.headers)})
        length = response.headers.get("Content-Length")
        total = -(-(have + int(length)) // 1000) if length else None
        with (
            part.open("ab" if goes_on else "wb") as file,
            console.Bar(f"fetching {url.rsplit('/', 1)[-1]} (kB)", total) as bar,
        ):
            bar.advance(have // 1000)
            for chunk in response.iter_bytes():
                file.write(chunk)
                have += len(chunk)
                bar.advance(have // 1000 - (have - len(chunk)) // 1000)


def _validator(headers: httpx2.Headers) -> str | None:
    """Return what tells this version of the file from another, if a range may be asked by it."""
    if "Content-Encoding" in headers or headers.get("ETag", "").startswith("W/"):
        return None
    return headers.get("ETag") or headers.get("Last-Modified")


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _is_final(error: Exception) -> bool:
    """Tell an answer that will not change by asking again."""
    if isinstance(error, httpx2.HTTPStatusError):
        return error.response.status_code < 500 and error.response.status_code not in RETRIED
    return isinstance(error, httpx2.InvalidURL | httpx2.UnsupportedProtocol)


def _reason(error: Exception) -> str:
    if isinstance(error, httpx2.HTTPStatusError):
        return f"HTTP status {error.response.status_code} {error.response.reason_phrase}"
    if isinstance(error, httpx2.TimeoutException):
        return f"no answer within {CONNECT_S} s to connect and {SILENCE_S} s to send"
    return str(error).strip() or type(error).__name__
