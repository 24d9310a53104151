"""The last layer of a BERT-like classifier computed for the first token only: the head reads no other."""

from typing import Any

import torch
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from cleantune.models.attention import ATTENTION, attend

FIRST_TOKEN_READERS = ("bert", "camembert", "electra", "roberta", "xlm-roberta")
"""Model types whose classification heads read the first token of the last layer and no other."""


MASKED_BY_ADDITION = ("eager", "sdpa", ATTENTION)
"""Kinds of attention with a mask of (documents, 1, queries, keys), which can be cut to one query."""


class FirstTokenLayer(nn.Module):
    """The last layer of a BERT-like encoder with the first token's output only: (documents, 1, features).

    Keys and values are computed for all tokens, the query and what follows for the first.
    """

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        *_: Any,  # arguments of decoders
        **rest: Any,
    ) -> torch.Tensor:
        """Return the output of the whole layer for the first token of each document."""
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
    """Restrict the last layer of a classifier to the first token, where its head reads only that.

    Logits and gradients stay the same. Models of other types or tasks are left unchanged.
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
