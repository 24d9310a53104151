"""Which weights learn, how fast, and by which rule."""

import re
from typing import Any

import torch
from torch import nn

from cleantune.errors import UserError
from cleantune.params.sections import Finetune


def depths(model: Any) -> dict[str, int]:
    """Return how far from the input each parameter is: 0 embeddings, 1.. the layers, then the head.

    Read from the model's structure. Embeddings are its input embeddings with what is beside them
    (norms, positions), every other table of embeddings, and what is registered before the layers
    (ELECTRA's projection). A weight that embeddings share with a head is an embedding.
    """
    whole = model.get_base_model() if hasattr(model, "get_base_model") else model  # with adapters
    body = whole.base_model
    layers = _layers(body)
    known: dict[int, int] = {}  # by the parameter's id

    def put(module: nn.Module, depth: int) -> None:
        for parameter in module.parameters():
            known.setdefault(id(parameter), depth)

    words = body.get_input_embeddings()
    put(words, 0)
    for module in body.modules():
        if any(child is words for child in module.children()) and not any(
            part is layers[0] for part in module.modules()
        ):
            put(module, 0)
    for blocks in layers:
        for i, block in enumerate(blocks):
            put(block, i + 1)
    inside = {id(p) for blocks in layers for p in blocks.parameters()}
    for module in body.modules():
        if isinstance(module, nn.Embedding):
            put(module, 0)
        if hasattr(module, "get_rel_embedding") and hasattr(module, "LayerNorm"):
            put(module.LayerNorm, 0)  # DeBERTa-v2's, of its relative positions
    for parameter in body.parameters():
        if id(parameter) in inside:
            break
        known.setdefault(id(parameter), 0)
    head = count_layers(whole) + 1
    return {name: known.get(id(p), head) for name, p in model.named_parameters()}


def count_layers(model: Any) -> int:
    """Return the number of transformer layers."""
    return len(_layers(model.base_model)[0])


def _layers(body: nn.Module) -> list[nn.ModuleList]:
    """Return the list of the model's layers; several where parts of a layer, or a decoder's, have theirs.

    That is the outermost list with most parameters, and those as long as it.
    Raises ``UserError`` when the model keeps its layers otherwise.
    """
    lists: list[nn.ModuleList] = []

    def walk(module: nn.Module) -> None:
        for child in module.children():
            if isinstance(child, nn.ModuleList):
                lists.append(child)
            else:
                walk(child)

    walk(body)
    if not lists:
        raise UserError(
            f"finetune: {type(body).__name__} keeps no list of layers. Set layer_lr_decay to 1, "
            "freeze_embeddings to false, freeze_layers to 0 and lora to null."
        )
    # ZeRO-3 keeps the true size there
    sizes = [sum(getattr(p, "ds_numel", p.numel()) for p in each.parameters()) for each in lists]
    largest = lists[sizes.index(max(sizes))]
    return [largest, *(x for x in lists if len(x) == len(largest) and x is not largest)]


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Tell whether weight decay applies: not to biases and norms, which only shift and scale."""
    shape = getattr(parameter, "ds_shape", parameter.shape)  # ZeRO-3 keeps the true shape there
    return len(shape) > 1 and not re.search(r"bias|norm", name, re.IGNORECASE)


def groups(
    model: Any, lr: float, weight_decay: float, layer_lr_decay: float
) -> list[dict[str, Any]]:
    """Return the optimizer's parameter groups.

    Each layer's learning rate is ``layer_lr_decay`` times that of the layer above it; the head has
    ``lr`` (as in ULMFiT's discriminative fine-tuning, arXiv 1801.06146).
    """
    levels = depths(model) if layer_lr_decay < 1 else {}
    head = max(levels.values(), default=0)
    by_rate: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            level = levels.get(name, head)
            decay = decays(name, parameter)
            group = {"params": [], "lr": lr * layer_lr_decay ** (head - level),
                     "weight_decay": weight_decay if decay else 0.0}  # fmt: skip
            by_rate.setdefault((level, decay), group)["params"].append(parameter)
    return [by_rate[key] for key in sorted(by_rate)]


def build(model: nn.Module, lr: float, options: Finetune) -> torch.optim.Optimizer:
    """Return the optimizer that ``finetune.optimizer`` names."""
    parameters = groups(model, lr, options.weight_decay, options.layer_lr_decay)
    if options.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr, momentum=options.momentum, fused=True)
    kind = torch.optim.AdamW if options.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, lr, fused=True)


def refuse_l1_at_zero_3(stage: int, options: Finetune) -> None:
    """Raise ``UserError`` for the L1 penalty where ZeRO-3 leaves only pieces of the weights."""
    if stage == 3 and options.l1:
        raise UserError(
            f"finetune.l1: {options.l1} does not work at ZeRO-3, where no process holds a whole "
            "weight. Set zero_stage to 2 or lower, or finetune.l1 to 0."
        )


def l1(model: nn.Module) -> torch.Tensor:
    """Return the sum of the absolute values of all weights that decay."""
    return torch.stack(
        [p.abs().sum() for n, p in model.named_parameters() if p.requires_grad and decays(n, p)]
    ).sum()


def freeze(model: Any, embeddings: bool, layers: int) -> None:
    """Keep the embeddings, or these and the lowest ``layers`` layers, as they are.

    Raises ``UserError`` when the model has fewer layers.
    """
    if not (embeddings or layers):
        return
    if layers > count_layers(model):
        raise UserError(f"finetune.freeze_layers: {layers} is more than the model's "
                        f"{count_layers(model)} layers.")  # fmt: skip
    levels = depths(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(levels[name] > layers)


def set_dropout(config: Any, share: float | None) -> None:
    """Set every kind of dropout that a model's configuration knows; None leaves them."""
    for name, value in config.to_dict().items():
        # not layerdrop, which leaves out whole layers
        if share is not None and type(value) in (int, float) and re.search("dropout|pdrop", name):
            setattr(config, name, share)


def refuse_r_drop_without_dropout(model: nn.Module, options: Finetune) -> None:
    """Raise ``UserError`` when R-Drop's two passes would be the same, at twice the time."""
    shares = [value for module in model.modules() for name, value in vars(module).items()
              if "drop" in name or (name == "p" and "Dropout" in type(module).__name__)]  # fmt: skip
    if options.r_drop and not any(isinstance(share, float) and share > 0 for share in shares):
        raise UserError(
            f"finetune.r_drop: {options.r_drop} compares two passes with different dropout, and this "
            "model has none: both would be the same, at twice the time. Set finetune.dropout to 0.1, "
            "or finetune.r_drop to 0."
        )
