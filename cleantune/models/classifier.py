"""A fine-tuned classifier, loaded from its folder; it returns the logits of texts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification

from cleantune import files
from cleantune.data import tables
from cleantune.errors import UserError
from cleantune.models import encoder, first_token, long_documents, weights
from cleantune.models.long_documents import Reading

SEEDS = "seeds"  # in tables.FINETUNED: one folder for each seed of `study.seeds`
NEEDED = ("config.json", "tokenizer_config.json")  # beside the weights

BATCH_TOKENS = 4096
"""Tokens a batch holds at most, padding included: 32 documents of 128."""

Tokens = Sequence[Sequence[int]]
Advance = Callable[[int], None]


@dataclass
class Classifier:
    """Model, tokenizer and class names of one folder."""

    model: Any
    tokenizer: Any
    labels: list[str]
    reading: Reading
    folder: Path

    @property
    def max_length(self) -> int:
        """Tokens that the model reads at once."""
        return self.reading.max_length

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Turn texts into the token ids that are read of them, chunk after chunk.

        A lone surrogate, which no UTF-8 text can hold, becomes a question mark.
        """
        whole = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        if not whole:
            return []
        if self.reading.method == "head":
            encoded = self.tokenizer(whole, truncation=True, max_length=self.max_length)
            ids: list[list[int]] = encoded["input_ids"]
            return ids
        encoded = self.tokenizer(whole, verbose=False)
        return [self.reading.select(tokens) for tokens in encoded["input_ids"]]

    def logits(self, tokens: Tokens, advance: Advance | None = None) -> np.ndarray:
        """Return the scores of each document, float32 of shape (documents, classes).

        Those of a document in chunks are the mean of its chunks' logits. Sorted by length into batches of
        about ``BATCH_TOKENS``, so that there is hardly any padding; rows are in the order given.
        ``advance`` gets the number of documents done.
        """
        divided = [long_documents.divide(t, self.reading.chunk_length) for t in tokens]
        chunks = [chunk for parts in divided for chunk in parts]
        left = np.array([len(parts) for parts in divided], dtype=np.int64)  # chunks to compute
        counts, owner = left.tolist(), np.repeat(np.arange(len(tokens)), left)
        scores = np.zeros((len(chunks), len(self.labels)), dtype=np.float32)
        self.model.eval()
        with torch.inference_mode():
            for rows in batches([len(c) for c in chunks]):
                inputs = self.pad([chunks[i] for i in rows])
                scores[rows] = self.model(**inputs).logits.float().cpu().numpy()
                np.subtract.at(left, owner[rows], 1)
                if advance:
                    advance(int((left[np.unique(owner[rows])] == 0).sum()))
        return long_documents.mean(scores, counts)

    def pad(self, tokens: Tokens) -> dict[str, torch.Tensor]:
        """Return one batch on the model's device, padded at the end."""
        rows = [torch.as_tensor(np.asarray(document, np.int64)) for document in tokens]
        ids, mask = encoder.pad(rows, self.pad_id)
        device = self.model.device
        return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}

    @property
    def unknown_id(self) -> int | None:
        """The id of the unknown token; None for a vocabulary that covers everything."""
        token_id: int | None = self.tokenizer.unk_token_id
        return token_id

    @property
    def pad_id(self) -> int:
        """The padding token, the same for model and tokenizer."""
        return int(self.tokenizer.pad_token_id)


def batches(lengths: Sequence[int], batch_tokens: int = BATCH_TOKENS) -> Iterator[np.ndarray]:
    """Yield positions of documents of like length, longest first, ``batch_tokens`` at most."""
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    start = 0
    while start < len(order):
        longest = max(1, lengths[order[start]])
        stop = start + max(1, batch_tokens // longest)
        yield order[start:stop]
        start = stop


def load(folder: Path = tables.FINETUNED) -> Classifier:
    """Load a Hugging Face sequence-classification folder, in fp32, on the GPU if there is one.

    Weights come from safetensors alone, so nothing in the folder is executed, and no network is
    asked. Raises ``UserError`` when the folder or a file of it is missing, damaged, or does not
    hold a trained classification head.
    """
    _check(folder)
    encoder.load_silently()
    try:
        model, report = encoder.load_model(
            AutoModelForSequenceClassification, folder, output_loading_info=True
        )
        tokenizer = encoder.load_tokenizer(folder)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RuntimeError,
        UserError,
    ) as error:
        # What transformers raises for a folder whose files do not fit together.
        raise _unusable(folder, str(error).splitlines()[0] if str(error) else error) from None
    if report["missing_keys"]:
        absent = ", ".join(sorted(report["missing_keys"])[:3])
        raise _unusable(folder, f"its weights lack {absent}: not a fine-tuned classifier")
    labels = [model.config.id2label[i] for i in range(model.config.num_labels)]
    encoder.set_padding(model.config, tokenizer)
    first_token.answer_from_first_token(model)
    # tokenizers without a limit report 1e30
    limits = [tokenizer.model_max_length, encoder.position_limit(model.config)]
    max_length = min([int(n) for n in limits if n and n < 1e9], default=512)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    method, max_chunks = long_documents.recorded(folder)
    reading = long_documents.reading(
        method, max_length, max_chunks,
        lambda text, special: tokenizer(text, add_special_tokens=special)["input_ids"],
    )  # fmt: skip
    return Classifier(model.to(device).eval(), tokenizer, labels, reading, folder)


def further_seeds(folder: Path) -> list[Path]:
    """Return the folders of the models of `study.seeds`, trained beside that in ``folder``."""
    return sorted(folder.glob(f"{SEEDS}/*"), key=lambda path: int(path.name))


def _check(folder: Path) -> None:
    if not folder.is_dir():
        raise UserError(
            f"{folder} is missing: there is no model yet. `dvc repro` trains one, `dvc pull` "
            "fetches a trained one; another folder goes by --model in tools.predict."
        )
    absent = [name for name in NEEDED if not (folder / name).is_file()]
    if absent:
        raise _unusable(folder, f"no {' and no '.join(absent)}")
    files.read_json(folder / "config.json")
    if fault := weights.fault(folder):
        raise _unusable(folder, fault)


def _unusable(folder: Path, why: object) -> UserError:
    return UserError(
        f"{folder} is damaged or half-written ({why}). Delete it and run `dvc repro`, or "
        "`dvc checkout` the kept copy."
    )
