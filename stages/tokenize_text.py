"""Tokenize the documents for the model; the token ids are stored without padding.

    python -m stages.tokenize_text

Documents longer than ``max_length`` tokens are truncated. With ``augment`` changed copies of the
training documents follow them. A stage of its own, so that another ``lr`` does not tokenize again.
"""

import pandas as pd
from transformers import PreTrainedTokenizerBase

from cleantune import console, files
from cleantune.augmentation import copies
from cleantune.data import tables
from cleantune.models import encoder
from cleantune.params.read import read_params

PARAMS = ("seed", "max_length", "augment")
SOURCES = {
    "train": tables.LABELS / "train.parquet",
    "validation": tables.CLEAN / "validation.parquet",
    "test": tables.CLEAN / "test.parquet",
}
COLUMNS = ("id", "input_ids", "label", "length", "weight")
CHUNK = 5_000  # documents per call: enough for all cores


def main() -> None:
    """Tokenize the three splits."""
    params = read_params(PARAMS)
    console.title("tokenize_text", "tokenize the documents")

    # ---- the tokenizer of the model that will be fine-tuned
    folder = encoder.pretrained_folder(encoder.PRETRAINED)
    tokenizer = encoder.load_tokenizer(folder)
    encoder.refuse_longer("max_length", params.max_length, folder)

    # ---- all splits alike; only training documents carry weights
    splits = {split: tables.read_table(path) for split, path in SOURCES.items()}
    splits["train"] = copies.with_copies(
        splits["train"], params.augment, params.seed, folder, tokenizer, params.max_length
    )
    rows = []
    with files.atomic_folder(tables.TOKENS) as out:
        for split, table in splits.items():
            tokens, cut = tokenize(tokenizer, tables.full_text(table), split, params.max_length)
            weight = table.get("weight", 1.0)
            length = [len(t) for t in tokens]
            result = table[["id", "label"]].assign(input_ids=tokens, length=length, weight=weight)
            tables.write_table(out / f"{split}.parquet", result, COLUMNS)
            lengths = result["length"]
            rows.append((split, len(table), int(lengths.sum()), f"{lengths.mean():.1f}",
                         int(lengths.max()), cut))  # fmt: skip

    # ---- report
    columns = ("split", "documents", "tokens", "mean", "longest", "truncated")
    console.table(f"Tokens (at most {params.max_length} a document)", columns, rows)
    console.outputs(tables.TOKENS)


def tokenize(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], what: str, max_length: int
) -> tuple[pd.Series, int]:
    """Return each text's token ids, with special tokens, and the number of truncated texts."""
    tokens: list[list[int]] = []
    cut = 0
    with console.Bar(f"tokenizing {what}", len(texts)) as bar:
        for start in range(0, len(texts), CHUNK):
            chunk = texts[start : start + CHUNK]
            ids_of_chunk = tokenizer(chunk, return_attention_mask=False, verbose=False)["input_ids"]
            for i in (i for i, ids in enumerate(ids_of_chunk) if len(ids) > max_length):
                ids_of_chunk[i] = tokenizer(chunk[i], truncation=True, max_length=max_length)[
                    "input_ids"
                ]
                cut += 1
            tokens += ids_of_chunk
            bar.advance(len(chunk))
    return pd.Series(tokens, dtype=object), cut


if __name__ == "__main__":
    console.run(main)
