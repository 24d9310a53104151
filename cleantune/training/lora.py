"""Low-rank adapters (LoRA, arXiv 2106.09685): the model's own weights are frozen; adapters and head learn.

The same in one process and in several, at every ZeRO stage: only what learns is gathered, saved and
kept in checkpoints. At the end the adapters are merged into the base model's weights, read anew.
"""

import math
import shutil
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import load_file
from torch import nn

from cleantune.errors import UserError
from cleantune.params.sections import Lora
from cleantune.training import optimizers, saved_model

ADAPTER = "adapter"
"""In the folder of a fine-tuned model: the adapters and the head, as peft saves them."""


def adapt(
    model: Any, options: Lora | None, base: str = "", *, bf16: bool = False, new: Iterable[str] = ()
) -> Any:
    """Return ``model`` with adapters on its linear layers, or on those that ``options`` target; None: as it is.

    All of the head learns, and so do the layers with weights in ``new``: the base model's files lack
    these, so that they are random. ``bf16`` keeps the frozen weights in bf16, half of their memory;
    adapters and head stay fp32. ``base`` is the base model's name, for the adapters' config.
    Raises ``UserError`` where the model has no layer of a target's name.
    """
    if options is None:
        return model
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers.pytorch_utils import Conv1D

    head = [name for name, part in model.named_children()
            if name != model.base_model_prefix and any(True for _ in part.parameters())]  # fmt: skip
    head += sorted({_layer(name) for name in new if name.partition(".")[0] not in head})
    # ELECTRA's embeddings have a linear layer, too
    embeddings = {_layer(name) for name, depth in optimizers.depths(model).items() if not depth}
    linear = [name for name, part in model.named_modules() if isinstance(part, nn.Linear | Conv1D)
              and not any(f"{name}.".startswith(f"{other}.") for other in (*head, *embeddings))]  # fmt: skip
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS, r=options.rank, lora_alpha=options.alpha,
        lora_dropout=options.dropout, use_dora=options.kind == "dora",
        use_rslora=options.kind == "rslora", target_modules=_targeted(linear, options.targets),
        modules_to_save=head,
        # GPT-2's own kind of linear layer keeps its weights the other way round
        fan_in_fan_out=any(isinstance(part, Conv1D) for part in model.modules()),
    )  # fmt: skip
    with _without_peft_warnings():
        adapted: Any = get_peft_model(model, config)
    config.base_model_name_or_path = base  # peft's own is a path of this machine
    # A set would be written in another order by each process.
    config.target_modules = sorted(config.target_modules or ())
    if bf16:
        _keep_frozen_in_bf16(adapted)
    return adapted


def _without_peft_warnings() -> Any:
    """Silence the warning that peft asks transformers for recomputation by its former name."""
    return warnings.catch_warnings(action="ignore", category=FutureWarning)


def _layer(parameter: str) -> str:
    """Return the name of the layer that a parameter is of."""
    return parameter.rpartition(".")[0]


def _targeted(layers: list[str], targets: list[str] | None) -> list[str]:
    """Return which of the ``layers`` have a name that ends in one of ``targets``; None: all."""
    found = {target: [name for name in layers if f".{name}".endswith(f".{target}")]
             for target in targets or ()}  # fmt: skip
    for target, names in found.items():
        if not names:
            known = ", ".join(sorted({name.rpartition(".")[2] for name in layers}))
            raise UserError(
                f"finetune.lora.targets: {target!r} is the name of no linear layer below the head; "
                f"there are: {known}."
            )
    return (
        layers if targets is None else sorted({name for names in found.values() for name in names})
    )


def _keep_frozen_in_bf16(model: Any) -> None:
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()
            if hasattr(parameter, "ds_tensor"):  # ZeRO-3 keeps this process's part there
                parameter.ds_tensor.data = parameter.ds_tensor.data.bfloat16()


def learned(model: Any) -> dict[str, torch.Tensor]:
    """Return what learns, by name, on the CPU. All processes must call this: ZeRO-3 gathers it."""
    return {
        name: saved_model.gathered(p) for name, p in model.named_parameters() if p.requires_grad
    }


def save(model: Any, weights: dict[str, torch.Tensor], folder: Path) -> None:
    """Write the adapters and the head, what ``learned`` returned, to ``folder`` in peft's format."""
    model.save_pretrained(folder, state_dict=weights, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # a form to fill in


def save_merged(base: Any, adapter: Path, folder: Path) -> None:
    """Write ``base`` with ``adapter`` merged into its weights, in fp32, to ``folder``; the adapter to its ``ADAPTER``.

    A layer is merged at a time, as peft does it: where the weights of ``base`` are memory-mapped, no
    more than a shard is held.
    """
    from peft import LoraConfig
    from transformers.pytorch_utils import Conv1D

    options: Any = LoraConfig.from_pretrained(adapter)
    scale = options.lora_alpha / (math.sqrt(options.r) if options.use_rslora else options.r)
    weights = {name.removeprefix("base_model.model."): weight
               for name, weight in load_file(adapter / SAFETENSORS_WEIGHTS_NAME).items()}  # fmt: skip

    def merge(name: str, weight: torch.Tensor) -> torch.Tensor:
        if name in weights:
            return weights[name]
        layer = _layer(name)
        if f"{layer}.lora_A.weight" not in weights or not name.endswith(".weight"):
            return weight
        turned = isinstance(base.get_submodule(layer), Conv1D)
        up, down = weights[f"{layer}.lora_B.weight"], weights[f"{layer}.lora_A.weight"]
        merged: torch.Tensor = (weight.T if turned else weight) + scale * up @ down
        if options.use_dora:
            norm = weights[f"{layer}.lora_magnitude_vector"]
            merged *= (norm / merged.norm(dim=1))[:, None]
        return merged.T if turned else merged

    saved_model.save(base, folder, merge)
    shutil.copytree(adapter, folder / ADAPTER)
