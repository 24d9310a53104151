"""The loss of each document of a batch."""

from functools import partial

import torch


def classification(
    logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0, r_drop: float = 0.0,
    soft: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:  # fmt: skip
    """Return the cross-entropy of each document in nats, float32 (documents,).

    With ``r_drop``, ``logits`` (2 x documents, classes) has a second pass below the first one; the
    result is the mean of both, plus ``r_drop`` times their divergence. Else (documents, classes).
    ``labels`` are int64 (documents,). ``soft`` are a second class of each and its share of the target,
    both (documents,).
    """
    passes = len(logits) // len(labels)
    cross_entropy = partial(
        torch.nn.functional.cross_entropy, logits, reduction="none", label_smoothing=label_smoothing
    )
    losses = cross_entropy(labels.repeat(passes))
    if soft:
        others, shares = (each.repeat(passes) for each in soft)
        losses = (1 - shares) * losses + shares * cross_entropy(others)
    if r_drop:
        losses = losses.view(2, -1).mean(dim=0) + r_drop * r_drop_divergence(logits)
    return losses


def r_drop_divergence(logits: torch.Tensor) -> torch.Tensor:
    """Return R-Drop's penalty (Liang et al. 2021, arXiv 2106.14448) for each document, (documents,).

    Half the symmetric Kullback-Leibler divergence, in nats, between the classes' probabilities of
    two passes; ``logits`` (2 x documents, classes) has those of the second below the first's.
    """
    first, second = logits.log_softmax(dim=1).chunk(2)
    return ((first.exp() - second.exp()) * (first - second)).sum(dim=1) / 2
