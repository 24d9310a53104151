"""Training survives kills at any moment and ends in the weights it would have had.

Real processes on a two-layer model with dropout, so that the state of the random generators counts.
"""

import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import types
from importlib.metadata import version

import psutil
import pytest
import torch

from cleantune import files
from cleantune.distributed import connection, ranks
from cleantune.training import checkpoints as checkpoints_module
from cleantune.training import fingerprint
from tests import tiny

PARAMS = {"lr": 3e-3, "epochs": 3, "batch_size": 8, "precision": "fp32",
          "finetune__checkpoint_steps": 2, "finetune__early_stopping_patience": 9}  # fmt: skip


def prepare(folder):
    tiny.write(folder, documents=60, dropout=0.1)  # 8 steps an epoch, the last batch smaller
    tiny.set_params(folder, **PARAMS)
    return folder


def outputs(folder):
    return {p.name: files.sha256(p) for p in sorted((folder / "models/finetuned").iterdir())}


def checkpoints(folder):
    return sorted((folder / ".checkpoints/finetune").glob("*/step-*"),
                  key=lambda p: int(p.name.removeprefix("step-")))  # fmt: skip


def stop_at(folder, runner, step):
    """Run until the checkpoint of ``step`` stands, and kill."""
    run = runner.start(folder, before="kill_after_checkpoint", environment={"AT": str(step)})
    assert run.statuses == [-9], run.output


def damage(folder, pattern):
    """Cut the largest file that matches in half."""
    largest = max(folder.rglob(pattern), key=lambda p: p.stat().st_size)
    with largest.open("r+b") as file:
        file.truncate(largest.stat().st_size // 2)


@pytest.fixture(scope="module")
def undisturbed(runner, tmp_path_factory):
    folder = prepare(tmp_path_factory.mktemp("undisturbed"))
    runner.run(folder)
    assert not list(folder.glob(".checkpoints/finetune/*")), "left behind after a good end"
    return outputs(folder)


def test_the_same_run_gives_the_same_bytes(runner, tmp_path, undisturbed):
    folder = prepare(tmp_path)
    runner.run(folder)
    assert outputs(folder) == undisturbed
    assert set(undisturbed) == {"config.json", "history.csv", "model.safetensors", "summary.json",
                                "tokenizer.json", "tokenizer_config.json", "validation.json"}  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_stops_and_the_next_run_goes_on(runner, tmp_path, undisturbed, number):
    folder = prepare(tmp_path)
    run = runner.start(
        folder, before="signal_at_step", environment={"AT": "5", "SIGNAL": str(int(number))}
    )
    assert run.statuses == [128 + number], run.output
    assert "stopped at step 5" in run.output
    assert checkpoints(folder)[-1].name == "step-5"
    assert not (folder / "models/finetuned").exists()
    run = runner.start(folder)
    assert "resuming from the checkpoint of step 5" in run.output
    assert outputs(folder) == undisturbed


def test_a_damaged_checkpoint_falls_back_to_the_one_before(runner, tmp_path, undisturbed):
    folder = prepare(tmp_path)
    stop_at(folder, runner, 6)
    kept = checkpoints(folder)
    assert [p.name for p in kept] == ["step-4", "step-6"]
    damage(kept[-1], "*.pt")
    run = runner.start(folder)
    assert "checkpoint of step 6 is damaged" in run.output
    assert "resuming from the checkpoint of step 4" in run.output
    assert outputs(folder) == undisturbed


@pytest.mark.parametrize(
    ("sound", "damaged", "written", "left"),
    [([], [6, 8], [2, 4], [2, 4]), ([4], [6], [5], [4, 5]), ([4], [6], [8], [4, 8])],
)
def test_damaged_checkpoints_count_for_nothing(
    workspace, monkeypatch, sound, damaged, written, left
):
    monkeypatch.setattr(checkpoints_module, "KEPT", 9)
    run = checkpoints_module.Checkpoints("finetune", "run")

    def write(step):
        with run.write(step) as folder:
            (folder / "weights.pt").write_bytes(bytes(100))

    for step in sound + damaged:
        write(step)
    for step in damaged:
        damage(run.path(step), "*.pt")
    monkeypatch.setattr(checkpoints_module, "KEPT", 2)
    assert run.latest() == (run.path(sound[-1]) if sound else None)
    assert run.steps() == sound, "a message may name one"
    for step in written:
        write(step)
    assert run.steps() == left
    assert run.latest() == run.path(left[-1])
    assert {p.name for p in run.folder.iterdir()} == {f"step-{step}" for step in left}


def test_damaged_best_weights_fall_back_to_the_checkpoint_before(runner, tmp_path, undisturbed):
    folder = prepare(tmp_path)
    stop_at(folder, runner, 8)
    assert [p.name for p in checkpoints(folder)] == ["step-6", "step-8"]
    damage(checkpoints(folder)[-1].parent / "best-8", "model.safetensors")
    run = runner.start(folder)
    assert "checkpoint of step 8 is damaged" in run.output
    assert "resuming from the checkpoint of step 6" in run.output
    assert outputs(folder) == undisturbed


def test_the_best_weights_of_the_checkpoints_that_are_kept_stay_and_no_others(workspace):
    run = checkpoints_module.Checkpoints("finetune", "run")
    for step in range(10):
        if step % 3 != 1:  # not every epoch is better
            with run.write_best(step) as folder:
                (folder / "model.safetensors").write_bytes(bytes(step + 1))
        assert len(list(run.folder.glob("best-*"))) <= checkpoints_module.KEPT + 1
        with run.write(step) as folder:
            (folder / "weights.pt").write_bytes(bytes(100))
    assert {p.name for p in run.folder.iterdir()} == {"step-8", "step-9", "best-8", "best-9"}
    run = checkpoints_module.Checkpoints("finetune", "run")  # a run that goes on
    assert run.latest() == run.path(9)
    for step in (10, 11):
        with run.write(step) as folder:
            (folder / "weights.pt").write_bytes(bytes(100))
    assert {p.name for p in run.folder.iterdir()} == {"step-10", "step-11", "best-9"}
    shutil.rmtree(run.best(9))
    assert run.latest() is None


def test_all_processes_go_on_from_the_checkpoint_that_rank_0_found(workspace, monkeypatch):
    run = checkpoints_module.Checkpoints("finetune", "run")
    for step in (2, 4):
        with run.write(step) as folder:
            (folder / "weights.pt").write_bytes(bytes(100))
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(ranks, "gather", lambda _: [2, None])
    assert run.latest() == run.path(2)


def test_a_run_that_is_only_looked_at_in_another_way_goes_on(runner, tmp_path, undisturbed):
    folder = prepare(tmp_path)
    stop_at(folder, runner, 6)
    run = runner.start(folder, finetune__checkpoint_steps=3, finetune__tensorboard=True,
                       finetune__profiler=True, processes=1)  # fmt: skip
    assert run.statuses == [0], run.output
    assert "resuming from the checkpoint of step 6" in run.output
    assert outputs(folder) == undisturbed


@pytest.mark.parametrize("change", ["params", "nested", "data", "configuration"])
def test_a_run_that_differs_starts_from_nothing(runner, tmp_path, undisturbed, change):
    folder = prepare(tmp_path)
    stop_at(folder, runner, 4)
    if change == "params":
        tiny.set_params(folder, lr=2e-3)
    elif change == "nested":
        tiny.set_params(folder, finetune__label_smoothing=0.1)
    elif change == "data":
        shutil.copy(folder / "data/tokens/validation.parquet", folder / "data/tokens/train.parquet")
    else:
        config = json.loads((folder / "ds_config.json").read_text())
        config["zero_optimization"]["reduce_bucket_size"] = 10_000
        (folder / "ds_config.json").write_text(json.dumps(config))
    run = runner.start(folder)
    assert run.statuses == [0]
    assert "resuming" not in run.output


def test_the_fingerprint_follows_code_processes_threads_and_libraries(tmp_path, monkeypatch):
    module = types.ModuleType("stages.extra")
    module.__file__ = str(tmp_path / "extra.py")
    (tmp_path / "extra.py").write_text("PASSES = 1")
    monkeypatch.setitem(sys.modules, "stages.extra", module)
    seen = [fingerprint.of_run({}, [])]
    assert fingerprint.of_run({}, []) == seen[0]
    (tmp_path / "extra.py").write_text("PASSES = 2")
    seen.append(fingerprint.of_run({}, []))
    monkeypatch.setattr(ranks, "gather", lambda value: [value, value])
    seen.append(fingerprint.of_run({}, []))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    seen.append(fingerprint.of_run({}, []))
    for library in ("accelerate", "deepspeed", "numpy", "peft", "torch", "transformers"):
        versions = {library: "99"}
        monkeypatch.setattr(
            fingerprint, "version", lambda name, v=versions: v.get(name) or version(name)
        )
        seen.append(fingerprint.of_run({}, []))
    assert len(set(seen)) == len(seen) == 10


def test_a_full_disk_says_so_and_keeps_the_last_good_checkpoint(runner, tmp_path, undisturbed):
    folder = prepare(tmp_path)
    run = runner.start(folder, before="disk_full_after_two_checkpoints")
    assert run.statuses == [1]
    assert "No space left" in run.output
    assert "Traceback" not in run.output
    assert [p.name for p in checkpoints(folder)] == ["step-2", "step-4"]
    assert not list(folder.glob(".checkpoints/finetune/*/.*")), "a half-written one is left"
    run = runner.start(folder)
    assert "resuming from the checkpoint of step 4" in run.output
    assert outputs(folder) == undisturbed


@pytest.mark.parametrize("kilobytes", [20, 120, 400])
def test_a_disk_that_is_really_full_loses_nothing(runner, tmp_path, undisturbed, kilobytes):
    """A file system in memory, filled up but for so much after the first checkpoint."""
    folder, disk = prepare(tmp_path), tmp_path / ".checkpoints"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        stop_at(folder, runner, 6)
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(shutil.disk_usage(disk).free - 1024 * kilobytes))
        run = runner.start(folder)
        assert run.statuses == [1], run.output
        said = " ".join(run.output.split())
        assert "No space left on the disk" in said
        assert re.search(r"The checkpoint of step \d+ is kept", said)
        assert "Traceback" not in run.output
        assert not (folder / "models/finetuned").exists()
        ballast.unlink()
        run = runner.start(folder)
        assert "resuming from the checkpoint of step" in run.output
        assert outputs(folder) == undisturbed
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("clip", [0.0, 1.0])
@pytest.mark.parametrize("stage", [0, 2])
def test_an_infinite_gradient_stops_before_it_is_kept(runner, tmp_path, stage, clip):
    folder = prepare(tmp_path)
    tiny.set_params(folder, finetune__max_gradient_norm=clip)
    run = runner.start(folder, before="infinite_gradient_at_step_6", zero_stage=stage)
    assert run.statuses == [1]
    message = " ".join(run.output.split())
    assert re.search(r"The gradient's norm is (inf|nan) at step 6, learning rate 0.00", message)
    assert "The checkpoint of step 4 is kept" in message
    assert [p.name for p in checkpoints(folder)] == ["step-2", "step-4"]


# Told after the exchange of step 5: only step 6 learns it. Step 4 has a checkpoint to write, the
# epoch ends with step 8 and is judged: both ask once more.
@pytest.mark.parametrize(("told", "stopped"), [(5, 6), (4, 4), (8, 8)])
def test_a_signal_to_one_of_two_processes_stops_both_at_one_step(runner, tmp_path, told, stopped):
    folder = prepare(tmp_path)
    run = runner.start(folder, before="signal_one_after_the_exchange",
                       environment={"AT": str(told)}, processes=2)  # fmt: skip
    assert run.statuses == [143, 143], run.output
    assert f"stopped at step {stopped};" in run.output
    assert checkpoints(folder)[-1].name == f"step-{stopped}"
    assert ("epoch 1:" in run.output) == (stopped == 8)


def start_command(folder):
    """Start the stage as a person does, in two processes; return it and where its output goes."""
    output = folder / "output.log"
    with output.open("w") as file:
        command = [sys.executable, "-m", "stages.finetune"]
        return subprocess.Popen(command, cwd=folder, stdout=file, stderr=file), output


def wait_for(condition, process):
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, "ended too early"
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


@pytest.mark.slow
def test_a_signal_to_the_command_waits_for_its_processes_checkpoint(tmp_path):
    folder = prepare(tmp_path)
    tiny.set_params(folder, processes=2, epochs=1000, finetune__early_stopping_patience=1000)
    command, output = start_command(folder)
    wait_for(lambda: checkpoints(folder), command)
    # A step that takes longer than the half minute after which torchrun would kill.
    workers = psutil.Process(command.pid).children()
    for worker in workers:
        worker.suspend()
    command.terminate()
    time.sleep(33)
    for worker in workers:
        worker.resume()
    assert command.wait(60) == 143, output.read_text()
    said = output.read_text()
    (step,) = re.findall(r"stopped at step (\d+); the same command goes on from there", said)
    assert len(workers) == 2
    assert not re.search("traceback|warning|error", said, re.IGNORECASE), said
    assert checkpoints(folder)[-1].name == f"step-{step}"

    command, output = start_command(folder)
    wait_for(lambda: checkpoints(folder)[-1].name != f"step-{step}", command)
    command.send_signal(signal.SIGINT)
    assert command.wait(60) == 130, output.read_text()
    assert f"resuming from the checkpoint of step {step}" in output.read_text()


def test_a_signal_at_the_end_of_a_run_keeps_the_next_seed_from_beginning(runner, tmp_path):
    folder = prepare(tmp_path)
    tiny.set_params(folder, study__seeds=[1], epochs=1)
    run = runner.start(folder, before="signal_at_step", environment={"AT": "8", "SIGNAL": "15"})
    assert run.statuses == [143], run.output
    assert "seed 1" not in run.output
    run = runner.start(folder)
    assert run.statuses == [0], run.output
    assert "resuming" not in run.output, "the first seed's run was over"
    assert (folder / "models/finetuned/seeds/1/model.safetensors").is_file()


def test_a_checkpoint_may_take_longer_than_a_step_waits_for_a_host(runner, tmp_path):
    folder = prepare(tmp_path)
    run = runner.start(folder, before="slow_disk", processes=2, epochs=2,
                       environment={"LOCAL_WORLD_SIZE": "1"},  # as on two hosts
                       finetune__checkpoint_steps=100)  # fmt: skip
    assert run.statuses == [0, 0], run.output
    assert run.seconds > 9


@pytest.mark.parametrize(
    ("said", "lost"),
    [
        ("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [10.0.0.1]:4711", True),
        ("NCCL error: ncclRemoteError: A call failed possibly due to a network error", True),
        ("NCCL error: ncclInvalidUsage: This usually reflects invalid usage of NCCL", False),
        ("CUDA error: device-side assert triggered", False),
    ],
)
def test_not_every_error_of_nccl_means_a_lost_process(monkeypatch, said, lost):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert connection.lost_touch(torch.distributed.DistBackendError(said)) is lost


def test_an_infinite_loss_stops_with_step_rate_and_documents(runner, tmp_path, undisturbed):
    folder = prepare(tmp_path)
    run = runner.start(folder, before="poison_step_6")
    assert run.statuses == [1]
    message = " ".join(run.output.split())
    assert "The loss is nan at step 6, learning rate 0.00" in message
    assert "train-" in message
    assert "The checkpoint of step 4 is kept" in message
    assert "Traceback" not in message
    run = runner.start(folder)
    assert outputs(folder) == undisturbed


@pytest.mark.slow
def test_ten_kills_at_random_moments_change_nothing(runner, tmp_path, undisturbed):
    folder = prepare(tmp_path)
    moments = random.Random(1)
    kills, halves = 0, 0
    steps: set[str] = set()
    longest = runner.start(folder).seconds  # measured: a busy machine takes its time
    shutil.rmtree(folder / "models/finetuned")
    while kills < 10 or len(steps) <= 5 or not halves:
        assert kills < 80, f"{kills} kills hit checkpoints {steps} and {halves} half-written ones"
        run = runner.start(folder, kill_after=moments.uniform(0, longest))
        if run.statuses == [0]:  # over before it was killed: once more from nothing
            assert outputs(folder) == undisturbed
            shutil.rmtree(folder / "models/finetuned")
            longest = max(longest, run.seconds)  # a resumed run is shorter than a whole one
            continue
        assert run.statuses == [-9], run.output
        kills += 1
        steps |= {p.name for p in checkpoints(folder)}
        halves += any(folder.glob(".checkpoints/finetune/*/.*.part"))
    assert runner.start(folder).statuses == [0]
    assert outputs(folder) == undisturbed


def test_kills_of_one_process_or_of_both_change_nothing(runner, tmp_path):
    folder = prepare(tmp_path)
    run = runner.start(folder, processes=2, zero_stage=2, epochs=2)
    assert run.statuses == [0, 0], run.output
    whole, moments, seconds = outputs(folder), random.Random(3), run.seconds
    shutil.rmtree(folder / "models/finetuned")
    resumed = 0
    kills: list[int | None] = []
    while len(kills) < 4 or not resumed:
        assert len(kills) < 20, "no run went on from a checkpoint"
        victim = (None, 0, 1)[len(kills) % 3]
        moment = moments.uniform(0, 0.8 * seconds)
        killed = runner.start(folder, processes=2, kill_after=moment, victim=victim)
        resumed += "resuming from" in killed.output
        if not resumed:
            seconds *= 1.2  # a machine that has become busier takes longer to the first checkpoint
        if killed.statuses == [0, 0]:  # over before: once more from nothing
            assert outputs(folder) == whole
            shutil.rmtree(folder / "models/finetuned")
            continue
        assert 0 not in killed.statuses, killed.output
        assert -9 in killed.statuses, killed.output
        kills.append(victim)
    assert runner.start(folder, processes=2).statuses == [0, 0]
    assert outputs(folder) == whole


@pytest.mark.parametrize("stage", [0, 3])
def test_checkpoints_of_adapters_hold_what_learns_alone_and_go_on_from_there(
    runner, tmp_path, stage
):
    folder = prepare(tmp_path)
    processes = 2 if stage else 1
    tiny.set_params(folder, zero_stage=stage, epochs=2, batch_size=20,  # 3 steps an epoch
                    finetune__lora={"rank": 2, "alpha": 4.0, "dropout": 0.1})  # fmt: skip
    runner.run(folder, processes=processes)
    whole = outputs(folder)
    shutil.rmtree(folder / "models/finetuned")
    run = runner.start(
        folder, before="kill_after_checkpoint", environment={"AT": "4"}, processes=processes
    )
    assert run.statuses[0] == -9, run.output
    states = sorted(checkpoints(folder)[-1].rglob("*model_states.pt"))
    assert states
    for path in states:
        state = torch.load(path, weights_only=False)
        assert not state.get("frozen_param_fragments")
        assert all("lora_" in name or "modules_to_save" in name for name in state["module"])
    kept = {path.name for path in checkpoints(folder)[-1].parent.glob("best-*/*")}
    assert kept == {"adapter_config.json", "adapter_model.safetensors"}
    run = runner.start(folder, processes=processes)
    assert "resuming from the checkpoint of step 4" in run.output
    assert outputs(folder) == whole
