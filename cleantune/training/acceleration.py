"""Faster training with the same result: last layer for the first token only, CPU attention and dropout, bf16."""

from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from cleantune.models.attention import ATTENTION, Dropout, attend
from cleantune.models.first_token import answer_from_first_token
from cleantune.params.sections import Kernels


def speed_up(model: Any, bf16: bool = False, kernels: Kernels = "fast") -> None:
    """Speed up ``model`` in place; on a GPU its own attention and dropout stay.

    On a CPU attention is replaced where the model takes it from transformers' interface, and dropout
    everywhere; with ``kernels`` "plain" nothing of the model is. ``bf16``: see ``autocast_to_bf16``.
    """
    if kernels == "fast":
        answer_from_first_token(model)
    if bf16:
        autocast_to_bf16(model)
    if kernels == "plain" or torch.cuda.is_available():
        return
    if model._supports_attention_backend:
        AttentionInterface.register(ATTENTION, attend)
        AttentionMaskInterface.register(ATTENTION, eager_mask)
        model.set_attn_implementation(ATTENTION)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Dropout:
                setattr(module, name, Dropout(child.p).train(child.training))


def autocast_to_bf16(model: Any) -> None:
    """Run the forward pass of ``model`` under bf16 autocast; weights, gradients and optimizer stay fp32.

    Not by DeepSpeed's config: its bf16 also rounds the gradients that processes exchange, so results
    would depend on the number of processes.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.forward = torch.autocast(device, torch.bfloat16)(model.forward)
    model.multiplies_in_bf16 = True
    embeddings = getattr(model.base_model, "embeddings", None)
    if device == "cpu" and embeddings is not None:
        # Autocast leaves sums and norms in the precision of their input: fp32 embeddings would make
        # all of them fp32, which is slower.
        embeddings.register_forward_hook(lambda _module, _given, vectors: vectors.bfloat16())
    module: Any  # torch declares the attributes of modules as tensors
    for module in model.modules():
        if hasattr(module, "q_bias"):
            # DeBERTa adds these fp32 weights to its queries and then masks with the smallest number
            # of fp32, which bf16 cannot represent.
            heads = module.transpose_for_scores
            module.transpose_for_scores = lambda x, heads=heads: heads(x.bfloat16())
