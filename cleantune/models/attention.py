"""Dropout and attention for training on a CPU.

On a CPU both are faster than torch's dropout and its fused attention with dropout
(docs/results/speed.md); on a GPU torch's own are used.
"""

import sys
from typing import Any

import torch
from torch import nn

ATTENTION = "cpu_training"
WITHOUT_EFFECT = (
    "cache_position", "cu_seq_lens_k", "cu_seq_lens_q", "deterministic", "is_causal", "max_length_k",
    "max_length_q", "num_items_in_batch", "output_attentions", "output_hidden_states",
    "output_router_logits", "position_ids", "sliding_window", "use_cache",
)  # fmt: skip
"""Arguments that transformers' eager attention ignores: masks and positions already contain them."""
LEVELS = 1 << 16
"""Resolution of the dropout probability: 16 random bits for each activation."""


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
    """``torch.nn.Dropout`` with 16 random bits for each activation; ``p`` is rounded to 1/65536."""

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
    """Compute attention as transformers' eager attention does.

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
