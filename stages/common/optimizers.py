"""Which weights learn, how fast, and by which rule."""

import re
from typing import Any

import torch
from torch import nn

from stages.common.errors import UserError
from stages.common.params import Finetune

# Names of the blocks of an encoder, in the order in which a document passes them.
BLOCK = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")
EMBEDDINGS = re.compile(
    r"(?:^|\.)(?:\w*embeddings?(?:_project)?|wte|wpe)\.|deberta\.encoder\.LayerNorm\."
)


def depth(name: str, blocks: int) -> int:
    """Return how far from the input a parameter is: 0 embeddings, 1..blocks, then the head."""
    if found := BLOCK.search(name):
        return int(found[1]) + 1
    return 0 if EMBEDDINGS.search(name) else blocks + 1


def count_blocks(model: nn.Module) -> int:
    """Return the number of transformer blocks."""
    numbers = [int(found[1]) for n, _ in model.named_parameters() if (found := BLOCK.search(n))]
    return max(numbers, default=-1) + 1


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Tell whether weight decay applies: not to biases and norms, which only shift and scale."""
    shape = getattr(parameter, "ds_shape", parameter.shape)  # ZeRO-3 keeps the true shape there
    return len(shape) > 1 and not re.search(r"bias|norm", name, re.IGNORECASE)


def groups(
    model: nn.Module, lr: float, weight_decay: float, layer_lr_decay: float
) -> list[dict[str, Any]]:
    """Return the optimizer's parameter groups.

    Each block's learning rate is ``layer_lr_decay`` times that of the block above it; the head has
    ``lr`` (as in ULMFiT's discriminative fine-tuning, arXiv 1801.06146).
    """
    blocks = count_blocks(model)
    found: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            level = depth(name, blocks) if layer_lr_decay < 1 else blocks + 1
            decay = decays(name, parameter)
            group = {"params": [], "lr": lr * layer_lr_decay ** (blocks + 1 - level),
                     "weight_decay": weight_decay if decay else 0.0}  # fmt: skip
            found.setdefault((level, decay), group)["params"].append(parameter)
    return [found[key] for key in sorted(found)]


def build(model: nn.Module, lr: float, knobs: Finetune) -> torch.optim.Optimizer:
    """Return the optimizer that ``finetune.optimizer`` names."""
    parameters = groups(model, lr, knobs.weight_decay, knobs.layer_lr_decay)
    if knobs.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr, momentum=knobs.momentum, fused=True)
    kind = torch.optim.AdamW if knobs.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, lr, fused=True)


def refuse_what_zero_3_cannot(stage: int, knobs: Finetune) -> None:
    """Raise ``UserError`` for knobs that need whole weights where ZeRO-3 leaves only pieces."""
    for name, value in (("l1", knobs.l1), ("lora_rank", knobs.lora_rank)):
        if stage == 3 and value:
            raise UserError(
                f"finetune.{name}: {value} does not work at ZeRO-3, where no process holds a whole "
                f"weight. Set zero_stage to 2 or lower, or finetune.{name} to 0."
            )


def l1(model: nn.Module) -> torch.Tensor:
    """Return the sum of the absolute values of all weights that decay."""
    return torch.stack(
        [p.abs().sum() for n, p in model.named_parameters() if p.requires_grad and decays(n, p)]
    ).sum()


def freeze(model: nn.Module, embeddings: bool, layers: int) -> None:
    """Keep the embeddings, or these and the lowest ``layers`` blocks, as they are.

    Raises ``UserError`` when the model has fewer blocks.
    """
    blocks = count_blocks(model)
    if layers > blocks:
        raise UserError(
            f"finetune.freeze_layers: {layers} is more than the model's {blocks} layers."
        )
    if embeddings or layers:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(depth(name, blocks) > layers)


def set_dropout(config: Any, share: float | None) -> None:
    """Set every kind of dropout that a model's configuration knows; None leaves them."""
    for name, value in config.to_dict().items():
        # not layerdrop, which leaves out whole layers
        if share is not None and type(value) in (int, float) and re.search("dropout|pdrop", name):
            setattr(config, name, share)


def with_lora(model: Any, rank: int) -> Any:
    """Return ``model`` with low-rank adapters (arXiv 2106.09685) on its linear layers; 0: as it is.

    Only the adapters and the head learn; saving folds the adapters into the weights.
    """
    if not rank:
        return model
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers.pytorch_utils import Conv1D

    head = [name for name, part in model.named_children()
            if name != model.base_model_prefix and any(True for _ in part.parameters())]  # fmt: skip
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS, r=rank, lora_alpha=2 * rank, target_modules="all-linear",
        # ELECTRA's embeddings have a linear layer, too
        exclude_modules=rf"({'|'.join(head)})(\..*)?|(.*\.)?embeddings_project", modules_to_save=head,
        # GPT-2's own kind of linear layer keeps its weights the other way round
        fan_in_fan_out=any(isinstance(part, Conv1D) for part in model.modules()),
    )  # fmt: skip
    return get_peft_model(model, config)
