"""A run is known by all that decides its weights, and by nothing else."""

import importlib.metadata
import json
import sys
from types import ModuleType

import pytest
import torch

from cleantune import machine
from cleantune.distributed import ranks
from cleantune.training import fingerprint
from cleantune.training.fingerprint import of_run


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_fingerprint_is_short_and_the_same_each_time():
    first = of_run({"lr": 1, "seed": 2}, [])
    assert len(first) == 16
    assert int(first, 16) >= 0
    assert of_run({"seed": 2, "lr": 1}, []) == first


def test_other_params_are_another_run():
    assert len({of_run(p, []) for p in ({}, {"lr": 1}, {"lr": 2}, {"seed": 1})}) == 4


def test_inputs_count_by_content_and_name(folder):
    (folder / "data").mkdir()
    (folder / "data/deep").mkdir()
    file, deep = folder / "data/a.txt", folder / "data/deep/b.txt"
    file.write_text("1")
    deep.write_text("2")
    inputs = [folder / "data", folder / "nothing"]
    known = {of_run({}, []), of_run({}, [file]), of_run({}, inputs)}
    assert len(known) == 3
    assert of_run({}, inputs) in known
    deep.write_text("3")
    known.add(of_run({}, inputs))
    deep.rename(deep.with_name("c.txt"))
    known.add(of_run({}, inputs))
    file.write_text("3")
    known.add(of_run({}, [file]))
    assert len(known) == 6


@pytest.mark.parametrize(
    ("owner", "name", "other"),
    [
        (torch.cpu, "get_capabilities", {"cpu_name": "another"}),
        (torch.backends.cpu, "get_cpu_capability", "another"),
        (torch, "are_deterministic_algorithms_enabled", True),
        (machine, "processor_lines", ["model: 1"]),
        (torch.cuda, "is_available", True),
    ],
)
def test_the_machine_and_what_it_computes_with_count(monkeypatch, owner, name, other):
    before = of_run({}, [])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    assert of_run({}, []) == before
    monkeypatch.setattr(owner, name, lambda: other)
    assert of_run({}, []) != before


@pytest.mark.parametrize("name", fingerprint.KERNEL_VARIABLES)
def test_what_tells_libraries_which_kernels_to_take_counts(monkeypatch, name):
    before = of_run({}, [])
    monkeypatch.setenv(name, "0")
    assert of_run({}, []) != before


def test_the_hardware_is_described_in_json_by_known_names(monkeypatch):
    found = fingerprint.hardware()
    assert json.loads(json.dumps(found)) == found
    assert set(found) == {"threads", "processor", "capabilities", "kernels", "environment", "gpu",
                          "tf32", "deterministic"}  # fmt: skip
    assert set(found["environment"]) == set(fingerprint.KERNEL_VARIABLES)
    assert found["threads"] == torch.get_num_threads()
    assert len(found["tf32"]) == 2
    if not torch.cuda.is_available():
        assert found["gpu"] is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    assert fingerprint.hardware()["gpu"] == ["A", 8, 0]


def test_hosts_that_differ_agree_on_one_folder(monkeypatch):
    found = []
    for own in ({"gpu": "A"}, {"gpu": "B"}):
        monkeypatch.setattr(fingerprint, "hardware", lambda own=own: own)
        monkeypatch.setattr(ranks, "gather", lambda _: [{"gpu": "A"}, {"gpu": "B"}])
        found.append(of_run({}, []))
    assert found[0] == found[1]


def test_processes_and_threads_count(monkeypatch):
    known = {of_run({}, [])}
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        known.add(of_run({}, []))
    finally:
        torch.set_num_threads(threads)
    with monkeypatch.context() as other:
        other.setattr(ranks, "gather", lambda value: [value, value])
        known.add(of_run({}, []))
    assert len(known) == 3


@pytest.mark.parametrize(
    "name", ["accelerate", "deepspeed", "numpy", "peft", "torch", "transformers"]
)
def test_the_versions_of_what_computes_count(monkeypatch, name):
    before, real = of_run({}, []), importlib.metadata.version
    monkeypatch.setattr(fingerprint, "version", lambda n: "0.0" if n == name else real(n))
    assert of_run({}, []) != before


def loaded(monkeypatch, name, path):
    module = ModuleType(name)
    module.__file__ = str(path)
    monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize("package", ["stages", "cleantune"])
def test_the_code_that_is_loaded_counts_and_nobody_elses(monkeypatch, folder, package):
    file = folder / package / "step.py"
    file.parent.mkdir()
    file.write_text("x = 1")
    before = of_run({}, [])
    loaded(monkeypatch, "others.step", file)
    loaded(monkeypatch, f"{package}ide", file)
    loaded(monkeypatch, f"others.{package}", file)
    assert of_run({}, []) == before
    loaded(monkeypatch, f"{package}.step", file)
    one = of_run({}, [])
    file.write_text("x = 2")
    two = of_run({}, [])
    file.rename(file.with_name("other.py"))
    loaded(monkeypatch, f"{package}.step", file.with_name("other.py"))
    assert len({before, one, two, of_run({}, [])}) == 4


def test_a_stage_counts_the_same_by_name_and_as_the_program(monkeypatch, folder):
    file = folder / "stages/step.py"
    file.parent.mkdir()
    file.write_text("x = 1")
    (folder / "step.py").write_text("x = 1")
    with monkeypatch.context() as imported:
        loaded(imported, "stages.step", file)
        by_name = of_run({}, [])
    loaded(monkeypatch, "__main__", folder / "step.py")
    another = of_run({}, [])  # a program that is no stage
    loaded(monkeypatch, "__main__", file)
    assert of_run({}, []) == by_name != another
