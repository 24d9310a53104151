"""A recurrent classifier over word embeddings: plain RNN or LSTM, in both directions."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from gensim.models import Word2Vec
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from cleantune.evaluation import metrics
from cleantune.params.sections import Baselines

Words = Sequence[Sequence[str]]
PADDING, UNKNOWN = 0, 1  # word ids; the others follow
RARE = 2  # words that occur less often share the vector of UNKNOWN
READ_WORDS = 150  # of a document; longer ones are cut
WORD2VEC_WORDS = 3_000_000  # that word2vec reads in all, in 5 to 40 passes
BATCH = 128  # documents at most; a small corpus gets smaller batches
STEPS = 80  # in an epoch, at least
LEARNING_RATE = 2e-3  # at the start; falls to 0 in a line


@dataclass(frozen=True)
class Vectors:
    """Word ids, and the vectors that training starts from, (words, dimensions)."""

    ids: dict[str, int]
    start: torch.Tensor

    def encode(self, documents: Words) -> list[torch.Tensor]:
        """Return each document's word ids; an empty one is a single UNKNOWN."""
        rows = ([self.ids.get(w, UNKNOWN) for w in words[:READ_WORDS]] for words in documents)
        return [torch.tensor(row or [UNKNOWN]) for row in rows]


def word_vectors(
    documents: Words, kind: Literal["word2vec", "random"], dimensions: int, seed: int
) -> Vectors:
    """Return a vector for each word: word2vec trained on ``documents``, or random ones."""
    seen = Counter(word for words in documents for word in words)
    known = sorted(word for word, count in seen.items() if count >= RARE)
    ids = {word: i for i, word in enumerate(known, start=UNKNOWN + 1)}
    start = np.random.default_rng(seed).normal(0, 0.1, (len(ids) + UNKNOWN + 1, dimensions))
    if kind == "word2vec" and known:
        # A small corpus is read more often, for each pass moves the vectors little.
        epochs = min(40, max(5, WORD2VEC_WORDS // max(1, sum(seen.values()))))
        # One worker: with more, the order in which threads update the vectors varies.
        model = Word2Vec(documents, vector_size=dimensions, min_count=RARE, window=5, sg=1,
                         epochs=epochs, seed=seed, workers=1)  # fmt: skip
        for word, i in ids.items():
            start[i] = model.wv[word]
        # Remove the component that all vectors share, which dominates them in a small corpus.
        start[UNKNOWN + 1 :] -= start[UNKNOWN + 1 :].mean(axis=0)
        start[UNKNOWN + 1 :] /= start[UNKNOWN + 1 :].std()  # to the scale a new layer expects
    start[PADDING] = 0
    return Vectors(ids, torch.tensor(start, dtype=torch.float32))


class RecurrentClassifier(nn.Module):
    """Embeddings, one recurrent layer in both directions, maximum and mean over time, a linear head."""

    def __init__(
        self, kind: Literal["rnn", "lstm"], vectors: torch.Tensor, hidden: int, classes: int
    ) -> None:
        super().__init__()
        layer = nn.LSTM if kind == "lstm" else nn.RNN
        self.embedding = nn.Embedding(
            len(vectors), vectors.shape[1], padding_idx=PADDING, _weight=vectors.clone()
        )
        self.layer = layer(vectors.shape[1], hidden, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(4 * hidden, classes)

    def forward(self, documents: list[torch.Tensor]) -> torch.Tensor:
        """Return scores, (documents, classes), for a batch sorted from long to short."""
        lengths = torch.tensor([len(d) for d in documents])
        ids = nn.utils.rnn.pad_sequence(documents, batch_first=True)
        packed = pack_padded_sequence(self.dropout(self.embedding(ids)), lengths, batch_first=True)
        states, _ = pad_packed_sequence(self.layer(packed)[0], batch_first=True)
        real = (ids != PADDING).unsqueeze(-1)
        highest = states.masked_fill(~real, -torch.inf).amax(dim=1)
        mean = states.sum(dim=1) / lengths.unsqueeze(-1)
        scores: torch.Tensor = self.head(self.dropout(torch.cat([highest, mean], dim=1)))
        return scores

    @torch.inference_mode()
    def scores(self, documents: list[torch.Tensor]) -> np.ndarray:
        """Return the scores of any number of documents, in their order."""
        self.eval()
        result = np.zeros((len(documents), self.head.out_features))
        order = np.argsort([-len(d) for d in documents], kind="stable")
        for at in range(0, len(order), BATCH * 4):
            rows = order[at : at + BATCH * 4]
            result[rows] = self([documents[i] for i in rows]).numpy()
        return result


def train(
    model: RecurrentClassifier,
    documents: list[torch.Tensor],
    labels: np.ndarray,
    validation_loss: Callable[[], float],
    epochs: int,
    seed: int,
) -> None:
    """Train with Adam, its rate falling to 0; leave the weights of the epoch of lowest ``validation_loss()``.

    ``labels`` has shape (documents,). Batches hold documents of like length, in random order.
    """
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    targets = torch.tensor(labels)
    lengths = np.array([len(d) for d in documents])
    lowest, best = float("inf"), model.state_dict()
    batch = min(BATCH, max(1, len(documents) // STEPS))
    steps = epochs * -(-len(documents) // batch)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for _ in range(epochs):
        model.train()
        # Noise on the lengths keeps the batches from being the same ones in every epoch.
        order = np.argsort(-(lengths + rng.uniform(0, 6, len(lengths))), kind="stable")
        groups = [order[at : at + batch] for at in range(0, len(order), batch)]
        for at in rng.permutation(len(groups)):
            rows = groups[at][np.argsort(-lengths[groups[at]], kind="stable")]
            loss = nn.functional.cross_entropy(model([documents[i] for i in rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        loss_now = validation_loss()
        if loss_now < lowest:
            lowest = loss_now
            best = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(best)


def fit(
    kind: Literal["rnn", "lstm"],
    words: dict[str, list[list[str]]],
    labels: np.ndarray,
    validation_labels: np.ndarray,
    classes: int,
    settings: Baselines,
    seed: int,
) -> tuple[str, tuple[np.ndarray, np.ndarray]]:
    """Train on ``words["train"]``; return ``kind`` and the scores of validation and test.

    Each array of scores has shape (documents, classes); a class without documents is never chosen.
    """
    # The steps of a recurrent layer are too small to share: two threads wait for one another.
    torch.set_num_threads(1)
    vectors = word_vectors(words["train"], settings.word_vectors, settings.dimensions, seed)
    encoded = {split: vectors.encode(documents) for split, documents in words.items()}
    torch.manual_seed(seed)
    model = RecurrentClassifier(kind, vectors.start, settings.hidden, classes)

    learned = np.bincount(labels, minlength=classes) > 0

    def scores(split: str) -> np.ndarray:
        return metrics.put_last(model.scores(encoded[split]), learned)

    def validation_loss() -> float:
        return metrics.nll(validation_labels, metrics.softmax(scores("validation")))

    train(model, encoded["train"], labels, validation_loss, settings.epochs, seed)
    return kind, (scores("validation"), scores("test"))
