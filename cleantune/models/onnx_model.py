"""An exported classifier on ONNX Runtime: without PyTorch and transformers, which take seconds to load."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from cleantune import files
from cleantune.errors import UserError
from cleantune.models import long_documents
from cleantune.models.long_documents import Reading

FP32 = Path("onnx/model.onnx")
INT8 = Path("onnx/model_int8.onnx")
RECORD = Path("export.json")
MADE_BY = "tools.export"


@dataclass
class OnnxClassifier:
    """The same interface as ``cleantune.models.classifier.Classifier``."""

    session: Any
    tokenizer: Any
    labels: list[str]
    reading: Reading
    unknown_id: int | None
    pad_id: int

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Turn texts into the token ids that are read of them; a lone surrogate becomes a "?"."""
        whole = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        encoded = [encoding.ids for encoding in self.tokenizer.encode_batch(whole)]
        if self.reading.method == "head":
            return encoded  # cut by the tokenizer
        return [self.reading.select(ids) for ids in encoded]

    def logits(
        self, tokens: Sequence[Sequence[int]], advance: Callable[[int], None] | None = None
    ) -> np.ndarray:
        """Return the scores of each document, float32 of shape (documents, classes).

        One document at a time: dynamic int8 quantization has one scale for a batch, so in a batch a
        document's logits would depend on the others.
        """
        scores = np.zeros((len(tokens), len(self.labels)), dtype=np.float32)
        for row, document in enumerate(tokens):
            chunks = long_documents.divide(document, self.reading.chunk_length)
            each = np.stack([self._chunk(chunk) for chunk in chunks])
            scores[row] = long_documents.mean(each, [len(chunks)])[0]
            if advance:
                advance(1)
        return scores

    def _chunk(self, tokens: Sequence[int]) -> np.ndarray:
        # a document without tokens is one of padding, as in encoder.pad
        ids = np.asarray([[*tokens] or [self.pad_id]], dtype=np.int64)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        logits: np.ndarray = self.session.run(["logits"], inputs)[0][0]
        return logits


def load(folder: Path, graph: Path = INT8) -> OnnxClassifier:
    """Load ``graph`` of a folder that ``tools.export`` or ``tools.predict --int8`` made.

    It runs on as many threads as ``OMP_NUM_THREADS`` sets, by default one per core.
    Raises ``UserError`` when a file is missing or damaged.
    """
    for path in (graph, Path("config.json"), Path("tokenizer.json")):
        if not (folder / path).is_file():
            raise _unusable(folder, f"no {path}")
    import onnxruntime  # of the extra `export`

    options = onnxruntime.SessionOptions()
    threads = os.environ.get("OMP_NUM_THREADS", "").split(",")[
        0
    ]  # OpenMP's form: one number a level
    options.intra_op_num_threads = int(threads) if threads.isdecimal() else 0
    options.log_severity_level = 3
    try:
        config = files.read_json(folder / "config.json")
        labels = [name for _, name in sorted(config["id2label"].items(), key=lambda i: int(i[0]))]
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        session = onnxruntime.InferenceSession(
            folder / graph, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # neither library's errors have a class of their own in common
        raise _unusable(folder, str(error).splitlines()[0]) from None
    limit = tokenizer.truncation
    if limit is None:
        raise _unusable(folder, "tokenizer.json does not set a maximum length")
    padding = tokenizer.padding
    if padding is None:
        raise _unusable(folder, "tokenizer.json does not set the padding token")
    tokenizer.no_padding()
    unknown = getattr(tokenizer.model, "unk_token", None)
    method, max_chunks = long_documents.recorded(folder)
    if method != "head":
        tokenizer.no_truncation()
    reading = long_documents.reading(
        method, limit["max_length"], max_chunks,
        lambda text, special: tokenizer.encode(text, add_special_tokens=special).ids,
    )  # fmt: skip
    return OnnxClassifier(session, tokenizer, labels, reading,
                          tokenizer.token_to_id(unknown) if unknown else None,
                          padding["pad_id"])  # fmt: skip


def place(folder: Path) -> Path:
    """Return the folder of the int8 version of a model: an export's own folder, or int8/ beside the model."""
    return folder if (folder / INT8).is_file() else folder.parent / "int8"


def fingerprint(model: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a model that its export depends on."""
    return {path.name: files.sha256(path) for path in sorted(model.iterdir())
            if path.is_file() and path.name != "history.csv"}  # fmt: skip


def is_of(exported: Path, model: Path) -> bool:
    """Return whether ``exported`` was made from the present files of ``model``."""
    if not ((exported / RECORD).is_file() and (exported / INT8).is_file() and model.is_dir()):
        return False
    return bool(files.read_json(exported / RECORD).get("model") == fingerprint(model))


def _unusable(folder: Path, why: object) -> UserError:
    return UserError(f"{folder} is damaged or half-written ({why}). Delete it: tools.predict "
                     "--int8 and tools.export --int8 make it again.")  # fmt: skip
