"""A hash of all that decides the weights at the end of a training run.

It covers params, inputs, code, versions of the libraries, the number of processes and, of each of
them, the threads, the models of its processor and GPU, and the kernels chosen for these. A run
resumes only from checkpoints of the same fingerprint.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from cleantune import files, machine
from cleantune.distributed import ranks

LIBRARIES = ("accelerate", "deepspeed", "numpy", "peft", "torch", "transformers")
KERNEL_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR",
                    "CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE")  # fmt: skip


def of_run(params: Mapping[str, Any], inputs: Iterable[Path]) -> str:
    """Return a hash of all that decides a run: see the module's first lines.

    ``params`` must be JSON; of ``inputs``, files count by content and folders by all their files.
    """
    # Under `python -m` the stage itself is __main__; a test imports it by its name.
    modules = [(name, getattr(module, "__file__", None)) for name, module in sys.modules.items()]
    code = {f"{Path(file).parent.name}/{Path(file).name}": files.sha256(Path(file))
            for name, file in modules
            if file and (name.split(".")[0] in ("cleantune", "stages")
                         or (name == "__main__" and Path(file).parent.name == "stages"))}  # fmt: skip
    every = [p for path in inputs for p in ([path] if path.is_file() else sorted(path.rglob("*")))]
    decides = {
        "params": params,
        "inputs": {str(p): files.sha256(p) for p in every if p.is_file()},
        "code": code,
        "versions": {name: version(name) for name in LIBRARIES},
        # In every process the same list: hosts that differ must still agree on the folder.
        "processes": ranks.gather(hardware()),
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


def hardware() -> dict[str, Any]:
    """Return what of this process's machine and settings decides how results are rounded."""
    gpu = torch.cuda.is_available()
    return {
        "threads": torch.get_num_threads(),
        "processor": machine.processor_lines(),
        "capabilities": dict(torch.cpu.get_capabilities()),
        "kernels": torch.backends.cpu.get_cpu_capability(),  # follows ATEN_CPU_CAPABILITY
        "environment": {name: os.environ.get(name) for name in KERNEL_VARIABLES},
        "gpu": [torch.cuda.get_device_name(), *torch.cuda.get_device_capability()] if gpu else None,
        "tf32": [torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32],
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }
