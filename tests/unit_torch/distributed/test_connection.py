"""Deterministic algorithms: set on a GPU, where asked for; on a CPU nothing changes."""

import os

import pytest
import torch

from cleantune.distributed import connection

VARIABLE = "CUBLAS_WORKSPACE_CONFIG"


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    monkeypatch.setitem(os.environ, VARIABLE, "")
    monkeypatch.delenv(VARIABLE)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("deterministic", [True, False])
def test_nothing_changes_on_a_cpu(monkeypatch, deterministic):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before = {**os.environ}
    connection.use_deterministic_algorithms(deterministic)
    assert not torch.are_deterministic_algorithms_enabled()
    assert before == {**os.environ}


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_gpu_is_told(monkeypatch, deterministic):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    connection.use_deterministic_algorithms(deterministic)
    assert torch.are_deterministic_algorithms_enabled() is deterministic
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert os.environ.get(VARIABLE) == (":4096:8" if deterministic else None)


def test_a_setting_of_the_user_stays(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv(VARIABLE, ":16:8")
    connection.use_deterministic_algorithms(True)
    assert os.environ[VARIABLE] == ":16:8"
