"""Two hosts train one model: two network namespaces on one machine, torchrun on each, gloo between.

They share the disk, as hosts of a run have to. Needs root and iproute2.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests import tiny
from tests.conftest import REPOSITORY

HOSTS = ("cleantune-a", "cleantune-b")
LINKS = ("ct-a", "ct-b")
ADDRESSES = ("10.213.7.1", "10.213.7.2")
# Stands in for ssh, for no host has a server here; hangs up at its end as the real one does with -tt.
SSH = """#!/bin/sh
[ "$1" = -ntt ] || exit 2
case $2 in 10.213.7.1) end=a ;; 10.213.7.2) end=b ;; esac
export OMP_NUM_THREADS=1 GLOO_SOCKET_IFNAME=ct-$end
setsid ip netns exec cleantune-$end sh -c "$3" &
trap 'kill -HUP -$!' TERM
wait $!
"""


def ip(*arguments):
    return subprocess.run(["ip", *arguments], capture_output=True, text=True)


def can_make_hosts():
    if not shutil.which("ip") or os.geteuid() != 0:
        return False
    works = ip("netns", "add", "cleantune-probe").returncode == 0
    ip("netns", "delete", "cleantune-probe")
    return works


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_make_hosts(), reason="needs root and iproute2 for two namespaces"),
]


@pytest.fixture(scope="module")
def hosts():
    for name in HOSTS:
        assert ip("netns", "add", name).returncode == 0
    ip("link", "add", LINKS[0], "type", "veth", "peer", "name", LINKS[1])
    for name, link, address in zip(HOSTS, LINKS, ADDRESSES, strict=True):
        ip("link", "set", link, "netns", name)
        for words in (("addr", "add", f"{address}/24", "dev", link), ("link", "set", link, "up"),
                      ("link", "set", "lo", "up")):  # fmt: skip
            assert ip("-n", name, *words).returncode == 0
    yield HOSTS
    for name in HOSTS:
        ip("netns", "delete", name)


@pytest.fixture(autouse=True)
def nothing_left(hosts):
    """End what a test leaves running: torchrun's workers outlive a torchrun that was killed."""
    yield
    for host in hosts:
        for number in ip("netns", "pids", host).stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(number), signal.SIGKILL)


def status(process, folder, seconds):
    """Wait for a process; return its exit status."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"still running: {said(folder, 0)}") from None


def start(folder, host):
    """Start training on one host, with the command that docs/distributed.md gives."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": LINKS[host]}
    command = ["ip", "netns", "exec", HOSTS[host], sys.executable, "-m", "torch.distributed.run",
               "--nnodes=2", "--nproc-per-node=1", f"--node-rank={host}",
               f"--master-addr={ADDRESSES[0]}", "--master-port=29400",
               "-m", "stages.finetune"]  # fmt: skip
    output = (folder / f"host-{host}.log").open("w")
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip


def said(folder, host):
    return (folder / f"host-{host}.log").read_text()


def prepare(folder, **params):
    tiny.write(folder, documents=55)
    settings = {"lr": 3e-3, "epochs": 2, "batch_size": 16, "precision": "fp32", "zero_stage": 2}
    tiny.set_params(folder, **{**settings, **params})


def wait_for_a_checkpoint(folder):
    end = time.monotonic() + 120
    while not list(folder.glob(".checkpoints/finetune/*/step-*")):
        assert time.monotonic() < end, said(folder, 0)
        time.sleep(0.1)


def test_two_hosts_give_the_losses_of_one(hosts, runner, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    prepare(tmp_path / "one")
    alone = runner.run(tmp_path / "one")
    prepare(tmp_path / "two")
    running = [start(tmp_path / "two", host) for host in (0, 1)]
    assert [process.wait(120) for process in running] == [0, 0], said(tmp_path / "two", 0)
    assert tiny.losses(tmp_path / "two") == pytest.approx(alone, rel=1e-4)
    assert "2 process(es)" in said(tmp_path / "two", 0)
    assert "best epoch" not in said(tmp_path / "two", 1), "only rank 0 speaks"


@pytest.mark.parametrize("dying", [1, 0], ids=["the other", "the master"])
def test_a_host_that_dies_ends_the_run_with_a_message_and_a_checkpoint(hosts, tmp_path, dying):
    prepare(tmp_path, epochs=1000, finetune__checkpoint_steps=2,
            finetune__early_stopping_patience=1000)  # fmt: skip
    running = [start(tmp_path, host) for host in (0, 1)]
    living = running[1 - dying]
    wait_for_a_checkpoint(tmp_path)
    # As a power cut does: nothing is closed, nothing arrives any more.
    ip("-n", HOSTS[dying], "link", "set", LINKS[dying], "down")
    os.killpg(running[dying].pid, 9)
    cut = time.monotonic()
    try:
        assert living.wait(60) != 0
    finally:
        if living.poll() is None:
            os.killpg(living.pid, 9)
        ip("-n", HOSTS[dying], "link", "set", LINKS[dying], "up")
        running[dying].wait()
    output = " ".join(said(tmp_path, 1 - dying).split())
    assert "lost touch with another process" in output, output
    assert "The checkpoint of step" in output
    assert re.search("It met: .*(timed out|No route to host)", output)
    assert time.monotonic() - cut < 60
    assert list(tmp_path.glob(".checkpoints/finetune/*/step-*"))


def start_from_the_docs(folder):
    """Start the loop over a hostfile that docs/distributed.md gives, word for word but for the GPUs."""
    text = (REPOSITORY / "docs/distributed.md").read_text()
    (loop,) = re.findall(r"in `hostfile`.*?```\n(.*?)```", text, re.DOTALL)
    (folder / "hostfile").write_text("\n".join(ADDRESSES))  # without a newline at its end
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "bin").mkdir()
    (folder / "bin/ssh").write_text(SSH)
    (folder / "bin/ssh").chmod(0o755)
    with (folder / "host-0.log").open("w") as output:
        return subprocess.Popen(
            ["bash", "-c", loop.replace("--nproc-per-node=gpu", "--nproc-per-node=1")], cwd=folder,
            env=os.environ | {"PATH": f"{folder}/bin:{os.environ['PATH']}"},
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def test_the_documented_loop_trains_on_all_hosts(hosts, tmp_path):
    prepare(tmp_path)
    assert status(start_from_the_docs(tmp_path), tmp_path, 120) == 0, said(tmp_path, 0)
    assert len(tiny.losses(tmp_path)) == 8
    assert "2 process(es)" in said(tmp_path, 0)
    assert "ended with status 0" in said(tmp_path, 0)


def test_ctrl_c_ends_the_documented_loop_on_all_hosts(hosts, tmp_path):
    prepare(tmp_path, epochs=1000, finetune__checkpoint_steps=2,
            finetune__early_stopping_patience=1000)  # fmt: skip
    loop = start_from_the_docs(tmp_path)
    wait_for_a_checkpoint(tmp_path)
    os.killpg(loop.pid, signal.SIGINT)
    assert status(loop, tmp_path, 60) == 1, said(tmp_path, 0)
    assert "ended with status 1" in said(tmp_path, 0)
    end = time.monotonic() + 60
    while any(ip("netns", "pids", host).stdout for host in hosts):
        assert time.monotonic() < end, "still running"
        time.sleep(0.1)
