"""The same model in less time: work that nothing reads left out, dropout and attention for a CPU.

The head of a BERT-like classifier reads the first token alone, so the last layer need not compute
the others. On a CPU torch's own dropout, and its fused attention where there is dropout, take longer
than what is here; on a GPU torch's own are used.
"""

import sys
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

ATTENTION = "cpu_training"
FIRST_TOKEN_READERS = ("bert", "camembert", "electra", "roberta", "xlm-roberta")
"""Model types whose classification heads read the first token of the last layer and no other."""
MASKED_BY_ADDITION = ("eager", "sdpa", ATTENTION)
"""Kinds of attention with a mask of (documents, 1, queries, keys), which can be cut to one query."""
WITHOUT_EFFECT = (
    "cache_position", "cu_seq_lens_k", "cu_seq_lens_q", "deterministic", "is_causal", "max_length_k",
    "max_length_q", "num_items_in_batch", "output_attentions", "output_hidden_states",
    "output_router_logits", "position_ids", "sliding_window", "use_cache",
)  # fmt: skip
"""Arguments that no eager attention of transformers reads: masks and positions have them already."""
LEVELS = 1 << 16
"""Steps of a share of dropout: 16 random bits decide each activation."""


class _Dropped(torch.autograd.Function):
    """``values * keep / (1 - share)`` with ``keep`` drawn from torch's generator."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, share: float) -> torch.Tensor:
        count = values.numel()
        bits = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
        numbers = bits.view(torch.int16)[:count].view(values.shape)
        threshold = round(share * LEVELS)
        keep = (numbers >= threshold - LEVELS // 2).to(values.dtype)
        keep.mul_(LEVELS / max(LEVELS - threshold, 1))
        ctx.save_for_backward(keep)
        return values * keep

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (keep,) = ctx.saved_tensors
        return gradients[0] * keep, None


class Dropout(nn.Dropout):
    """``torch.nn.Dropout`` that decides by 16 random bits an activation; ``p`` is rounded to them."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - torch's own name
        """Return ``input`` with a share ``p`` set to zero and the rest scaled up, in training."""
        return dropped(input, self.p) if self.training and self.p else input


def dropped(values: torch.Tensor, share: float) -> torch.Tensor:
    """Return ``values`` with a random ``share`` set to zero and the rest scaled to the same mean."""
    result: torch.Tensor = _Dropped.apply(values, share)  # type: ignore[no-untyped-call] # torch's
    return result


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **rest: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Attend as transformers' eager attention does, which is what it is registered beside.

    ``query``, ``key``, ``value``: (documents, heads, tokens, features of a head);
    ``attention_mask`` is added to the scores. Returns (documents, tokens, heads, features). A model
    that asks for more, by an argument not in ``WITHOUT_EFFECT``, gets its own eager attention.
    """
    if any(value is not None for name, value in rest.items() if name not in WITHOUT_EFFECT):
        own = sys.modules[type(module).__module__].eager_attention_forward
        result: tuple[torch.Tensor, torch.Tensor | None] = own(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **rest
        )
        return result
    groups = getattr(module, "num_key_value_groups", 1)  # heads that share a key
    if groups > 1:
        key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = torch.matmul(query * scale, key.transpose(2, 3))
    if attention_mask is not None:
        scores = scores + attention_mask
    shares = torch.softmax(scores, dim=-1).to(value.dtype)
    if dropout:
        shares = dropped(shares, dropout)
    return torch.matmul(shares, value).transpose(1, 2).contiguous(), None


class FirstTokenLayer(nn.Module):
    """The last layer of a BERT-like encoder, for the first token alone: (documents, 1, features).

    Keys and values are those of all tokens; the query, and all that follows from it, is one.
    """

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        *_: Any,  # a decoder's
        **rest: Any,
    ) -> torch.Tensor:
        """Return what the whole layer would say of the first token of each document."""
        layer: Any = self
        attention = layer.attention.self
        first = hidden_states[:, :1]
        query, key, value = (
            part(states).unflatten(-1, (-1, attention.attention_head_size)).transpose(1, 2)
            for part, states in ((attention.query, first), (attention.key, hidden_states),
                                 (attention.value, hidden_states))
        )  # fmt: skip
        if attention_mask is not None:
            attention_mask = attention_mask[:, :, :1]
        kind = attention.config._attn_implementation
        attended, _ = ALL_ATTENTION_FUNCTIONS.get_interface(kind, attend)(
            attention, query, key, value, attention_mask, scaling=attention.scaling,
            dropout=attention.dropout.p if attention.training else 0.0, **rest,
        )  # fmt: skip
        mixed = layer.attention.output(attended.flatten(2), first)
        result: torch.Tensor = layer.feed_forward_chunk(mixed)
        return result


def answer_from_first_token(model: Any) -> None:
    """Let the last layer of a classifier compute what its head reads, where that is the first token.

    Exact, in training and in use. A model of another kind, or with another task, stays as it is.
    """
    config = model.config
    if (
        config.model_type in FIRST_TOKEN_READERS
        and type(model).__name__.endswith("ForSequenceClassification")
        and config._attn_implementation in MASKED_BY_ADDITION
    ):
        layer = model.base_model.encoder.layer[-1]
        if not isinstance(layer, FirstTokenLayer):
            layer.__class__ = type(type(layer).__name__, (FirstTokenLayer, type(layer)), {})


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
