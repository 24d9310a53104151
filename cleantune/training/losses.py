"""The loss of a batch of documents."""

import torch


def disagreement(logits: torch.Tensor) -> torch.Tensor:
    """Return R-Drop's penalty (Liang et al. 2021, arXiv 2106.14448) for each document.

    Half the symmetric Kullback-Leibler divergence, in nats, between the classes' probabilities of
    two passes; ``logits`` (2 x documents, classes) has those of the second below the first's.
    """
    first, second = logits.log_softmax(dim=1).chunk(2)
    return ((first.exp() - second.exp()) * (first - second)).sum(dim=1) / 2
