"""Which documents make up each training batch, and which part of it each process computes.

A *global batch* is what one optimizer step sees. The plan of an epoch's global batches follows
from the lengths, the batch size, the seed and the epoch alone, never from how many processes share
the work; each then takes its slice. Documents of similar length go together, so that little is
padded: a batch of AG News in random order carries 1.7 tokens for each real one (docs/results/speed.md).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from cleantune import files
from cleantune.data import tables
from cleantune.distributed import ranks
from cleantune.models import encoder, long_documents

Ints = NDArray[np.int64]

Document = tuple[int, float, int]
"""What a loader asks a collator for: position in the dataset, weight in the loss, epoch."""

POOL = 50
"""Global batches sorted together: few enough to keep the order random, enough to pad little."""

STORE = Path(".checkpoints/tokens")

CHUNK_TOKENS = 16_384
"""Tokens of a forward pass at most, where documents are chunks and ``micro_batch_size`` is not set."""


def plan(lengths: Ints, batch_size: int, seed: int, epoch: int) -> list[Ints]:
    """Return an epoch's global batches as positions in ``lengths``; each document is in exactly one.

    Shuffled, sorted by length in pools of ``POOL`` batches, cut, and the batches shuffled again.
    The last batch cut may be smaller; none is dropped, nothing repeats.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(lengths))
    batches: list[Ints] = []
    for start in range(0, len(order), POOL * batch_size):
        pool = order[start : start + POOL * batch_size]
        pool = pool[np.argsort(-lengths[pool], kind="stable")]
        batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    shuffled = np.random.default_rng([seed, epoch, 1]).permutation(len(batches))
    return [batches[i] for i in shuffled]


class TokenIds(Sequence[torch.Tensor]):
    """The token ids of documents: each a tensor of int64, all of them one flat array of int32."""

    def __init__(self, flat: NDArray[np.int32], lengths: Ints) -> None:
        self._flat = flat
        self._ends = np.concatenate([[0], np.cumsum(lengths)])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: Any) -> Any:
        start, end = self._ends[index], self._ends[index + 1]
        return torch.from_numpy(self._flat[start:end].astype(np.int64))


class TokenDataset(Dataset[dict[str, Any]]):
    """Tokenized documents: each item has ``id``, ``input_ids``, ``label`` and ``weight``.

    ``table`` has these as columns; ``flat``, in place of ``input_ids`` and one after another, are their
    token ids where they are in memory already. With ``chunk_length``, longer documents are sequences of
    chunks: see ``long_documents``. Where labels are soft, ``soft`` are the second class of each and its share,
    both (documents,).
    """

    def __init__(
        self, table: Any, chunk_length: int | None = None, flat: NDArray[np.int32] | None = None
    ) -> None:
        self.chunk_length = chunk_length
        self.ids = pa.array(table["id"], pa.string())
        self.labels = np.array(table["label"], np.int64)
        self.weights = np.array(table["weight"], np.float64)
        self.soft = None
        if tables.SOFT_LABELS[0] in table:
            others, shares = (table[name].to_numpy() for name in tables.SOFT_LABELS)
            self.soft = others.astype(np.int64), shares.astype(np.float32)
        self.class_weights = np.ones(len(self.ids))
        if flat is None:
            documents = [np.asarray(ids, np.int32) for ids in table["input_ids"]]
            flat = np.concatenate([np.zeros(0, np.int32), *documents])
            self.lengths: Ints = np.array([len(ids) for ids in documents], np.int64)
        else:
            self.lengths = np.array(table["length"], np.int64)
        self.input_ids = TokenIds(flat, self.lengths)

    @classmethod
    def read(cls, path: Path, chunk_length: int | None = None) -> "TokenDataset":
        """Return the documents of a table of data/tokens, their token ids mapped from a file.

        That file is written by one process of each host, mapped by all of them and removed, so that they
        share the memory; it is gone for good when the last of them ends. Raises ``UserError`` for a table
        that is missing or damaged.
        """
        table = tables.read_table(path, ("id", "label", "length", "weight"), soft=True)
        host = ranks.rank() - ranks.local_rank()
        store = STORE / f"{path.stem}-{host}.bin"
        if ranks.local_rank() == 0:
            _write_flat(path, store)
        ranks.barrier()
        flat = np.memmap(store, np.int32, "r") if store.stat().st_size else np.zeros(0, np.int32)
        ranks.barrier()
        if ranks.local_rank() == 0:
            store.unlink()
        return cls(table, chunk_length, flat)

    def balance(self) -> None:
        """Let each class that occurs count as much in the loss as any other.

        Class k of c gets n / (c n_k), as scikit-learn's ``balanced``, documents counted by their
        weights and soft labels by their shares; the mean over all documents stays 1.
        """
        others, shares = self.soft or (self.labels, np.zeros(len(self.labels), np.float32))
        classes = max(self.labels.max(initial=0), others.max(initial=0)) + 1
        size = np.bincount(self.labels, self.weights * (1 - shares), classes)
        size += np.bincount(others, self.weights * shares, classes)
        there = size > 0
        wanted = self.weights.sum() / max(there.sum(), 1)
        each = np.where(there, wanted / np.where(there, size, 1), 0.0)
        of_others = shares * each[others]
        self.class_weights = (1 - shares) * each[self.labels] + of_others
        if self.soft:
            both = np.where(self.class_weights > 0, self.class_weights, 1)
            self.soft = others, (of_others / both).astype(np.float32)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {
            "id": self.ids[index].as_py(),
            "input_ids": self.input_ids[index],
            "label": self.labels[index],
            "weight": self.weights[index],
        }


def _write_flat(path: Path, store: Path) -> None:
    """Write the token ids of a table of data/tokens as int32, those of one document after another's."""
    store.parent.mkdir(parents=True, exist_ok=True)
    try:
        with store.open("wb") as file, pq.ParquetFile(path) as tokens:
            for batch in tokens.iter_batches(columns=["input_ids"]):
                file.write(batch.column(0).flatten().to_numpy())
    except (pa.ArrowInvalid, OSError) as error:
        store.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno:  # of the disk, such as no space left
            raise
        raise files.damaged(path, error) from None


class Share(Sampler[list[Document]]):
    """The micro-batches of one process, epoch by epoch.

    The weights are such that the sum of weighted losses, averaged over processes and summed over the
    micro-batches of a step, is the weighted mean loss of the global batch, however it was split.
    Class weights multiply that and are not divided by their sum in the batch: a batch without the
    rare class would make too much of the others.
    """

    def __init__(
        self,
        dataset: TokenDataset,
        batch_size: int,
        seed: int,
        rank: int,
        processes: int,
        accumulation: int,
    ) -> None:
        self._dataset = dataset
        self._batch_size = batch_size
        self._seed = seed
        self._rank = rank
        self._processes = processes
        self._accumulation = accumulation
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches the next iteration yields."""
        self._epoch = epoch

    def __len__(self) -> int:
        return -(-len(self._dataset) // self._batch_size) * self._accumulation

    def __iter__(self) -> Iterator[list[Document]]:
        parts = self._processes * self._accumulation
        for batch in plan(self._dataset.lengths, self._batch_size, self._seed, self._epoch):
            weights = self._dataset.weights[batch]
            weights = weights * (self._processes / max(weights.sum(), 1e-12))
            weights *= self._dataset.class_weights[batch]
            pieces = np.array_split(np.arange(len(batch)), parts)
            for i in range(self._accumulation):
                piece = pieces[i * self._processes + self._rank]
                if len(piece):
                    yield [(int(batch[j]), float(weights[j]), self._epoch) for j in piece]
                else:  # every process must compute something: a document that counts nothing
                    yield [(int(batch[-1]), 0.0, self._epoch)]


class Collator:
    """Pad a micro-batch to its longest document, or chunk of one."""

    def __init__(self, dataset: TokenDataset, padding_id: int) -> None:
        self._dataset = dataset
        self._padding_id = padding_id

    def __call__(self, documents: list[Document]) -> dict[str, Any]:
        """Return ``input_ids``, ``attention_mask`` (documents, tokens), ``labels``, ``weights``, maybe ``soft``.

        Of documents in chunks both have a row for each chunk, those of the first document first, and
        ``chunks`` lists how many each document has.
        """
        rows = [i for i, *_ in documents]
        length = self._dataset.chunk_length
        divided = [long_documents.divide(self._dataset.input_ids[i], length) for i in rows]
        ids, mask = encoder.pad([part for parts in divided for part in parts], self._padding_id)
        more: dict[str, Any] = {"chunks": [len(parts) for parts in divided]} if length else {}
        if self._dataset.soft:
            more["soft"] = tuple(torch.from_numpy(each[rows]) for each in self._dataset.soft)
        return more | {
            "input_ids": ids,
            "attention_mask": mask,
            "labels": torch.from_numpy(self._dataset.labels[rows]),
            "weights": torch.tensor([w for _, w, _ in documents], dtype=torch.float32),
            "rows": rows,
        }


class _Pairs(Dataset[Document]):
    """Stands between sampler and collator: hands a document on as it is."""

    def __init__(self, dataset: TokenDataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, pair: Document) -> Document:
        return pair


class Loader(DataLoader[Any]):
    """A training loader whose order follows the epoch, also when resumed in mid-epoch."""

    def __init__(self, share: Share, dataset: TokenDataset, collator: Collator) -> None:
        super().__init__(_Pairs(dataset), batch_sampler=share, collate_fn=collator)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration."""
        assert isinstance(self.batch_sampler, Share)
        self.batch_sampler.set_epoch(epoch)


def micro_batch(lengths: Ints) -> int:
    """Return how many documents in chunks fit into a forward pass, the longest of ``lengths`` assumed."""
    return max(1, CHUNK_TOKENS // int(lengths.max(initial=1)))


def in_order_of_length(lengths: Ints, batch_size: int) -> list[Ints]:
    """Return batches for prediction: longest first, so that little is padded."""
    order = np.argsort(-lengths, kind="stable")
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
