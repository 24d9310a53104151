"""The same training in less time: first token, attention and dropout for a CPU, bf16."""

from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from cleantune.models.attention import ATTENTION, Dropout, attend
from cleantune.models.first_token import answer_from_first_token


def speed_up(model: Any, bf16: bool = False) -> None:
    """Let ``model`` train with the functions above, on a GPU without dropout and attention.

    Attention is replaced where the model takes it from transformers' interface, dropout everywhere.
    ``bf16``: see ``autocast_to_bf16``.
    """
    answer_from_first_token(model)
    if bf16:
        autocast_to_bf16(model)
    if torch.cuda.is_available():
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
    """Let ``model`` multiply in bf16 and keep its weights, gradients and optimizer in fp32.

    Inside the model rather than in DeepSpeed's config: there bf16 also rounds the gradients that
    processes exchange, and results would depend on their number.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.forward = torch.autocast(device, torch.bfloat16)(model.forward)
    model.multiplies_in_bf16 = True
    embeddings = getattr(model.base_model, "embeddings", None)
    if device == "cpu" and embeddings is not None:
        # Between its matrix products torch goes on in the precision that it is given; embeddings,
        # in fp32, would have every sum and norm after them in fp32, which takes longer.
        embeddings.register_forward_hook(lambda _module, _given, vectors: vectors.bfloat16())
    module: Any  # torch takes what modules hold for tensors
    for module in model.modules():
        if hasattr(module, "q_bias"):
            # DeBERTa adds these weights to its queries, which makes them fp32, and then fills what
            # is masked with the smallest number of fp32: more than the products' bf16 can hold.
            heads = module.transpose_for_scores
            module.transpose_for_scores = lambda x, heads=heads: heads(x.bfloat16())
