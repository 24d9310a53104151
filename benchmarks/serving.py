"""Serving: tools.serve, in fp32 and int8, beside transformers' pipeline behind the same framework.

    python -m benchmarks.serving                                   (32 clients, 2,000 requests a round)
    python -m benchmarks.serving --requests 10000 --rounds 1       (does memory grow?)

Each client sends one text after the other, of the test set in random order, on a connection that it
keeps. The servers are processes of their own and are asked in turns, after a warm-up; of each number
the median of the rounds counts. Clients and servers share the machine's cores.
"""

import argparse
import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import psutil

from benchmarks.inference_speed import read
from cleantune import console
from cleantune.data import tables
from tools import record

SERVERS = {"plain pipeline": ("benchmarks.plain_server",), "tools.serve": ("tools.serve",),
           "tools.serve --int8": ("tools.serve", "--int8")}  # fmt: skip
WARM_UP = 200  # requests
START = 300  # seconds in which a server has to be there


def main() -> None:
    """Start the servers, measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", type=Path, default=tables.FINETUNED)
    parser.add_argument("--data", type=Path, help="CSV of AG News' form instead of data/clean")
    parser.add_argument("--clients", type=int, default=32, help="(default: %(default)s)")
    parser.add_argument(
        "--requests", type=int, default=2000, help="of a round (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    record.add_option(parser)
    options = parser.parse_args()
    kept = record.Record(options.keep)
    texts, _ = read(options.data)
    order = np.random.default_rng(0).permutation(len(texts))
    bodies = [
        json.dumps({"texts": [texts[i]]}).encode() for i in np.resize(order, options.requests)
    ]
    seconds: dict[str, list[float]] = {name: [] for name in SERVERS}
    waits: dict[str, list[np.ndarray]] = {name: [] for name in SERVERS}
    with servers(options.model) as running:
        for port, _ in running.values():
            asyncio.run(load(port, bodies[:WARM_UP], options.clients))
        before = {name: process.memory_info().rss for name, (_, process) in running.items()}
        for _ in range(options.rounds):
            for name, (port, _) in running.items():
                start = time.perf_counter()
                waits[name].append(asyncio.run(load(port, bodies, options.clients)))
                seconds[name].append(time.perf_counter() - start)
        after = {name: process.memory_info().rss for name, (_, process) in running.items()}
    rates = {name: options.requests / median(taken) for name, taken in seconds.items()}
    slowest = min(rates.values())
    kept.table(f"{options.clients} clients, {options.requests:,} requests (median of {options.rounds})",
               ("server", "requests/s", "", "p50, ms", "p99, ms", "memory, MB", "then"), (
        (name, f"{rate:.0f}", f"{rate / slowest:.2f}x",
         *(f"{1000 * median(np.percentile(each, q) for each in waits[name]):.0f}" for q in (50, 99)),
         f"{before[name] / 1e6:.0f}", f"{after[name] / 1e6:.0f}") for name, rate in rates.items()
    ))  # fmt: skip


@contextmanager
def servers(model: Path) -> Iterator[dict[str, tuple[int, psutil.Process]]]:
    """Start all servers; yield the port and process of each once it answers."""
    running: dict[str, tuple[int, subprocess.Popen[bytes]]] = {}
    try:
        for name, module in SERVERS.items():
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            command = [sys.executable, "-m", *module, "--model", str(model), "--port", str(port)]
            running[name] = port, subprocess.Popen(command, stdout=subprocess.DEVNULL)
        for port, process in running.values():
            _wait(port, process)
        yield {name: (port, psutil.Process(one.pid)) for name, (port, one) in running.items()}
    finally:
        for _, process in running.values():
            process.terminate()
            process.wait()


def _wait(port: int, process: "subprocess.Popen[bytes]") -> None:
    """Wait until a server listens; one that ends says why itself."""
    end = time.monotonic() + START
    while time.monotonic() < end and process.poll() is None:
        try:
            asyncio.run(load(port, [json.dumps({"texts": ["ready?"]}).encode()], 1))
            return
        except OSError:
            time.sleep(0.5)
    raise SystemExit(f"A server ended or did not answer in {START} seconds.")


async def load(port: int, bodies: list[bytes], clients: int) -> np.ndarray:
    """Send all requests by so many clients; return the seconds that each took."""
    rest, taken = iter(bodies), []

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for body in rest:
            start = time.perf_counter()
            head = (f"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                    f"content-length: {len(body)}\r\n\r\n")  # fmt: skip
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            status, *headers = answer.decode().lower().splitlines()
            if " 200 " not in f"{status} ":
                raise SystemExit(f"A server answered {status}.")
            size = next(int(h.split(":")[1]) for h in headers if h.startswith("content-length:"))
            await reader.readexactly(size)
            taken.append(time.perf_counter() - start)
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return np.array(taken)


if __name__ == "__main__":
    console.run(main)
