"""Low-rank adapters (LoRA, arXiv 2106.09685): the model's own weights are frozen; adapters and head learn.

The same in one process and in several, at every ZeRO stage: only what learns is gathered, saved and
kept in checkpoints. At the end the adapters are merged into the base model's weights, read anew.
"""

import re
from pathlib import Path
from typing import Any

import torch

from cleantune.errors import UserError
from cleantune.params.sections import Lora
from cleantune.training import optimizers

ADAPTER = "adapter"
"""In the folder of a fine-tuned model: the adapters and the head, as peft saves them."""


def adapt(model: Any, options: Lora | None, base: str = "") -> Any:
    """Return ``model`` with adapters on its linear layers, or on those that ``options`` target; None: as it is.

    ``base`` is the base model's name, for the adapters' config. Raises ``UserError`` where the model
    has no layer of the targets' names.
    """
    if options is None:
        return model
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers.pytorch_utils import Conv1D

    head = [name for name, part in model.named_children()
            if name != model.base_model_prefix and any(True for _ in part.parameters())]  # fmt: skip
    # ELECTRA's embeddings have a linear layer, too
    depths = optimizers.depths(model)
    embeddings = {name.rpartition(".")[0] for name, depth in depths.items() if not depth}
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS, r=options.rank, lora_alpha=options.alpha,  # type: ignore[arg-type] # fractions work
        lora_dropout=options.dropout, use_dora=options.kind == "dora",
        use_rslora=options.kind == "rslora", target_modules=options.targets or "all-linear",
        exclude_modules=rf"({'|'.join(map(re.escape, [*head, *sorted(embeddings)]))})(\..*)?",
        modules_to_save=head,
        # GPT-2's own kind of linear layer keeps its weights the other way round
        fan_in_fan_out=any(isinstance(part, Conv1D) for part in model.modules()),
    )  # fmt: skip
    try:
        adapted: Any = get_peft_model(model, config)
    except ValueError as error:
        raise UserError(f"finetune.lora.targets: {options.targets}: {error}") from None
    config.base_model_name_or_path = base  # peft's own is a path of this machine
    return adapted


def freeze_in_bf16(model: Any) -> None:
    """Keep the frozen weights in bf16, half of their memory; adapters and head stay fp32."""
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()
            if hasattr(parameter, "ds_tensor"):  # ZeRO-3 keeps this process's part there
                parameter.ds_tensor.data = parameter.ds_tensor.data.bfloat16()


def learned(model: Any) -> dict[str, torch.Tensor]:
    """Return what learns, by name, on the CPU. All processes must call this: ZeRO-3 gathers it."""
    import deepspeed

    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with deepspeed.zero.GatheredParameters([*learning.values()]):
        return {name: p.detach().cpu().clone() for name, p in learning.items()}


def save(model: Any, weights: dict[str, torch.Tensor], folder: Path) -> None:
    """Write the adapters and the head, what ``learned`` returned, to ``folder`` in peft's format."""
    model.save_pretrained(folder, state_dict=weights, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # a form to fill in


def merged(model: Any, adapter: Path) -> Any:
    """Return ``model``, the base in fp32, with the adapters and the head in ``adapter`` as its own weights."""
    from peft import PeftModel

    return PeftModel.from_pretrained(model, adapter).merge_and_unload()
