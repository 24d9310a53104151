"""Which words drove a prediction: integrated gradients (Sundararajan et al. 2017) with captum."""

from dataclasses import dataclass

import numpy as np
import torch

from cleantune.models.classifier import Classifier

STEPS = (24, 64)  # of the integral; the second, where the first leaves more of the sum unexplained
UNEXPLAINED = 0.02  # than this share of the difference in score, and a hundredth of a logit
AT_ONCE = 32  # steps in one pass of the model


@dataclass(frozen=True)
class Explanation:
    """What each part of a text added to the score of one class."""

    target: int
    spans: list[tuple[int, int, float]]
    """Start and end in the text, in characters, and the attribution, in logits; words in order."""
    special: float
    """What falls to tokens without text, such as the one for the start."""
    difference: float
    """The score of the text less that without its words: what all attributions sum to."""


def explain(model: Classifier, text: str, target: int | None = None) -> Explanation:
    """Attribute the score of class ``target`` (by default the predicted one) to the words.

    The path goes from a text whose words are all ``absent`` to this one, in embedding space. Tokens
    of one word are added up. ``special`` and the spans sum to ``difference`` but for the integral's
    error (Sundararajan's completeness), which decides how many steps are taken.
    """
    from captum.attr import LayerIntegratedGradients  # of the extra `explain`

    readable = text.encode("utf-8", "replace").decode("utf-8")
    encoded = model.tokenizer(
        readable, truncation=True, max_length=model.max_length, return_offsets_mapping=True,
        return_special_tokens_mask=True,
    )  # fmt: skip
    if not encoded["input_ids"]:  # an empty text, of a tokenizer that adds no token of its own
        found = int(model.logits([[]])[0].argmax())
        return Explanation(found if target is None else target, [], 0.0, 0.0)
    device = model.model.device
    ids = torch.tensor([encoded["input_ids"]], device=device)
    fixed = torch.tensor([encoded["special_tokens_mask"]], dtype=torch.bool, device=device)
    empty = torch.where(fixed, ids, torch.full_like(ids, absent(model)))
    mask = torch.ones_like(ids)

    def scores(tokens: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = model.model(input_ids=tokens, attention_mask=attention).logits
        return logits

    model.model.eval()
    embeddings = model.model.get_input_embeddings()
    with torch.no_grad():
        # As on the path, only the vectors are others: from the numbers of padding RoBERTa would count
        # places, and GPT-2 would find where the text ends.
        path = embeddings(torch.cat([ids, empty]))
        hook = embeddings.register_forward_hook(lambda *_: path)
        ends = scores(ids.expand(2, -1), mask.expand(2, -1))
        hook.remove()
    chosen = int(ends[0].argmax()) if target is None else target
    difference = float(ends[0, chosen] - ends[1, chosen])
    method = LayerIntegratedGradients(scores, embeddings)
    for steps in STEPS:
        parts = method.attribute(ids, empty, target=chosen, additional_forward_args=(mask,),
                                 n_steps=steps, internal_batch_size=AT_ONCE)  # fmt: skip
        each = parts.sum(dim=-1)[0].detach().double().cpu().numpy()
        if abs(each.sum() - difference) <= UNEXPLAINED * abs(difference) + 0.01:
            break
    spans, special = _by_word(encoded, each)
    return Explanation(chosen, spans, special, difference)


def absent(model: Classifier) -> int:
    """Return the token that stands for no word: padding, or another one if its vector is zero.

    From zero there is no path for a model that adds nothing to a word's vector but norms it, as
    DeBERTa: all that counts happens right at its start.
    """
    reader = model.tokenizer
    vectors = model.model.get_input_embeddings().weight
    known = [i for i in (model.pad_id, reader.mask_token_id, reader.unk_token_id,
                         reader.eos_token_id, reader.bos_token_id) if i is not None]  # fmt: skip
    return next((i for i in known if vectors[i].any()), model.pad_id)


def _by_word(encoded: "object", each: np.ndarray) -> tuple[list[tuple[int, int, float]], float]:
    """Add up the tokens of each word; return words by place and what is left to the rest."""
    spans: dict[int, tuple[int, int, float]] = {}
    special = 0.0
    offsets, words = encoded["offset_mapping"], encoded.word_ids()  # type: ignore[index,attr-defined]
    for (start, end), word, share in zip(offsets, words, each, strict=True):
        if word is None:
            special += float(share)
        else:
            first, last, before = spans.get(word, (start, end, 0.0))
            spans[word] = (min(first, start), max(last, end), before + float(share))
    return list(spans.values()), special
