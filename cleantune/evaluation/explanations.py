"""Which words drove a prediction: integrated gradients (Sundararajan et al. 2017) with captum."""

from dataclasses import dataclass

import numpy as np
import torch

from cleantune.models.classifier import Classifier

STEPS = (24, 64)  # of the integral; the second if the error of the first is too large
MAX_ERROR = 0.02  # relative to the difference in score, plus 0.01 logits
BATCH_SIZE = 32  # steps in one pass of the model


@dataclass(frozen=True)
class Explanation:
    """The attribution of the score of one class to the words of a text."""

    target: int
    spans: list[tuple[int, int, float]]
    """Start and end in the text, in characters, and the attribution, in logits; words in order."""
    special: float
    """The attribution of tokens without text, such as the start token."""
    difference: float
    """Score of the text minus score of the baseline: the sum of all attributions."""


def explain(model: Classifier, text: str, target: int | None = None) -> Explanation:
    """Attribute the score of class ``target`` (by default the predicted one) to the words.

    The baseline is the text with every word replaced by the ``baseline_token``; the path is in embedding
    space. The tokens of a word are summed. ``special`` and the spans sum to ``difference`` up to the
    error of the integral (completeness), which decides the number of steps. Of a document in chunks
    all are means over the chunks, as its logits are.
    """
    readable = text.encode("utf-8", "replace").decode("utf-8")
    cut = (
        {"truncation": True, "max_length": model.max_length}
        if model.reading.method == "head"
        else {}
    )
    encoded = model.tokenizer(
        readable, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False, **cut
    )
    if not encoded["input_ids"]:  # an empty text, with a tokenizer that adds no special tokens
        predicted = int(model.logits([[]])[0].argmax())
        return Explanation(predicted if target is None else target, [], 0.0, 0.0)
    chunks = [np.array(at) for at in model.reading.positions(len(encoded["input_ids"]))]
    tokens, fixed = (np.array(encoded[key]) for key in ("input_ids", "special_tokens_mask"))
    if target is None:
        read = [int(tokens[i]) for at in chunks for i in at]
        target = int(model.logits([read])[0].argmax())
    each, difference = np.zeros(len(tokens)), 0.0
    for at in chunks:
        shares, apart = _attributions(model, tokens[at], fixed[at], target)
        np.add.at(each, at, shares / len(chunks))
        difference += apart / len(chunks)
    spans, special = _by_word(encoded, each, np.unique(np.concatenate(chunks)))
    return Explanation(target, spans, special, difference)


def _attributions(
    model: Classifier, tokens: np.ndarray, special: np.ndarray, target: int
) -> tuple[np.ndarray, float]:
    """Return the attribution of each of ``tokens`` (tokens,), and the difference that they explain."""
    from captum.attr import LayerIntegratedGradients  # of the extra `explain`

    device = model.model.device
    ids = torch.tensor(tokens[None], device=device)
    fixed = torch.tensor(special[None], dtype=torch.bool, device=device)
    empty = torch.where(fixed, ids, torch.full_like(ids, baseline_token(model)))
    mask = torch.ones_like(ids)

    def scores(tokens: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = model.model(input_ids=tokens, attention_mask=attention).logits
        return logits

    model.model.eval()
    embeddings = model.model.get_input_embeddings()
    with torch.no_grad():
        # Change only the embeddings, as on the path: from padding token ids RoBERTa would compute
        # other positions, and GPT-2 another end of the text.
        path = embeddings(torch.cat([ids, empty]))
        hook = embeddings.register_forward_hook(lambda *_: path)
        ends = scores(ids.expand(2, -1), mask.expand(2, -1))
        hook.remove()
    difference = float(ends[0, target] - ends[1, target])
    method = LayerIntegratedGradients(scores, embeddings)
    for steps in STEPS:
        parts = method.attribute(ids, empty, target=target, additional_forward_args=(mask,),
                                 n_steps=steps, internal_batch_size=BATCH_SIZE)  # fmt: skip
        each = parts.sum(dim=-1)[0].detach().double().cpu().numpy()
        if abs(each.sum() - difference) <= MAX_ERROR * abs(difference) + 0.01:
            break
    return each, difference


def baseline_token(model: Classifier) -> int:
    """Return the token id of the baseline: padding, or another special token if its embedding is zero.

    A path from zero does not work for models that normalise the word embedding alone, such as
    DeBERTa: the whole change happens at its start.
    """
    reader = model.tokenizer
    vectors = model.model.get_input_embeddings().weight
    known = [i for i in (model.pad_id, reader.mask_token_id, reader.unk_token_id,
                         reader.eos_token_id, reader.bos_token_id) if i is not None]  # fmt: skip
    return next((i for i in known if vectors[i].any()), model.pad_id)


def _by_word(
    encoded: "object", each: np.ndarray, read: np.ndarray
) -> tuple[list[tuple[int, int, float]], float]:
    """Sum the attributions of each word's tokens; return the words in order, and the rest.

    ``read`` are the positions of the tokens that the model read.
    """
    spans: dict[int, tuple[int, int, float]] = {}
    special = 0.0
    offsets, words = encoded["offset_mapping"], encoded.word_ids()  # type: ignore[index,attr-defined]
    for i in read:
        (start, end), word, share = offsets[i], words[i], each[i]
        if word is None:
            special += float(share)
        else:
            first, last, before = spans.get(word, (start, end, 0.0))
            spans[word] = (min(first, start), max(last, end), before + float(share))
    return list(spans.values()), special
