"""What the project sets inside its libraries is still there and still read: an upgrade that moves it fails here."""

import importlib
import inspect
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import deepspeed
import pytest
import torch
from accelerate.state import AcceleratorState
from deepspeed.runtime.engine import DeepSpeedEngine

from cleantune.training import deepspeed_config

c10d = torch.distributed.distributed_c10d
deepspeed_comm = importlib.import_module("deepspeed.comm.torch")


@pytest.mark.parametrize(
    ("backend", "name"), [("gloo", "default_pg_timeout"), ("nccl", "default_pg_nccl_timeout")]
)
def test_groups_that_deepspeed_opens_get_the_timeout_that_connection_sets(
    monkeypatch, backend, name
):
    wanted = timedelta(seconds=7)
    monkeypatch.setattr(c10d, name, wanted)
    assert c10d._get_default_timeout(backend) == wanted


def test_deepspeed_compiles_no_all_reduce_where_it_is_said_not_to_be_compatible(monkeypatch):
    class Builder:
        NAME = "deepspeed_shm_comm"

        def load(self):
            raise AssertionError("compiled")

    known = {"deepspeed_shm_comm": False}
    monkeypatch.setitem(vars(deepspeed.ops), "__compatible_ops__", known)
    monkeypatch.setattr(
        deepspeed_comm, "get_accelerator",
        lambda: SimpleNamespace(create_op_builder=lambda _: Builder()),
    )  # fmt: skip
    assert deepspeed_comm.build_shm_op() is None


def test_a_single_process_at_zero_0_exchanges_no_gradients():
    engine = SimpleNamespace(enable_backward_allreduce=True, zero_optimization=lambda: False)
    deepspeed_config.skip_allreduce_for_single_process(engine)
    assert engine.enable_backward_allreduce is False
    assert "if self.enable_backward_allreduce" in Path(inspect.getfile(DeepSpeedEngine)).read_text()


def test_accelerate_forgets_the_run_before():
    AcceleratorState._shared_state["anything"] = 1
    AcceleratorState._reset_state()
    assert AcceleratorState._shared_state == {}
