"""Tokenize the documents for the model; the token ids are stored without padding.

    python -m stages.tokenize_text

What is read of documents longer than ``max_length`` tokens, ``long_documents`` decides; where many
are cut, or the tokenizer does not know their script, the stage says what helps. data/tokens/summary.json
has the counts. With ``augment`` changed copies of the
training documents follow them. A stage of its own, so that another ``lr`` does not tokenize again.
"""

import pandas as pd
from transformers import PreTrainedTokenizerBase

from cleantune import console, files
from cleantune.augmentation import copies
from cleantune.data import tables
from cleantune.models import encoder, long_documents, token_counts
from cleantune.models.long_documents import Reading
from cleantune.params.read import read_params

PARAMS = ("seed", "max_length", "long_documents", "max_chunks", "augment")
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
    reading = long_documents.reading(
        params.long_documents, params.max_length, params.max_chunks,
        lambda text, special: tokenizer(text, add_special_tokens=special)["input_ids"],
    )  # fmt: skip

    # ---- all splits alike; only training documents carry weights
    splits = {split: tables.read_table(path) for split, path in SOURCES.items()}
    splits["train"] = copies.with_copies(
        splits["train"], params.augment, params.seed, folder, tokenizer, params.max_length
    )
    rows = []
    counted = {}
    with files.atomic_folder(tables.TOKENS) as out:
        for split, table in splits.items():
            texts = tables.full_text(table)
            tokens, whole = tokenize(tokenizer, texts, split, reading)
            counted[split] = token_counts.count(
                texts, tokens, whole, tokenizer.unk_token_id, reading
            )
            weight = table.get("weight", 1.0)
            length = [len(t) for t in tokens]
            kept = table[[*tables.with_soft_labels(("id", "label"), table)]]
            result = kept.assign(input_ids=tokens, length=length, weight=weight)
            columns = tables.with_soft_labels(COLUMNS, result)
            tables.write_table(out / f"{split}.parquet", result, columns)
            lengths = result["length"]
            rows.append((split, len(table), int(lengths.sum()), f"{lengths.mean():.1f}",
                         int(lengths.max()), counted[split].truncated))  # fmt: skip
        summary = {split: counts.summary() for split, counts in counted.items()}
        files.write_json(out / "summary.json", summary)

    # ---- report
    columns = ("split", "documents", "tokens", "mean", "longest", "truncated")
    console.table(f"Tokens (at most {reading.limit} a document)", columns, rows)
    limit = encoder.position_limit(encoder.load_config(folder))
    for warning in token_counts.warnings(counted["train"], encoder.base_model(), limit):
        console.warn(warning)
    console.outputs(tables.TOKENS)


def tokenize(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], what: str, reading: Reading
) -> tuple[pd.Series, list[int]]:
    """Return what is read of each text, as token ids with special tokens, and each text's whole length."""
    tokens: list[list[int]] = []
    lengths: list[int] = []
    max_length = reading.max_length
    with console.Bar(f"tokenizing {what}", len(texts)) as bar:
        for start in range(0, len(texts), CHUNK):
            chunk = texts[start : start + CHUNK]
            ids_of_chunk = tokenizer(chunk, return_attention_mask=False, verbose=False)["input_ids"]
            lengths += [len(ids) for ids in ids_of_chunk]
            for i in (i for i, ids in enumerate(ids_of_chunk) if len(ids) > max_length):
                if reading.method == "head":
                    cut = tokenizer(chunk[i], truncation=True, max_length=max_length)
                    ids_of_chunk[i] = cut["input_ids"]
                else:
                    ids_of_chunk[i] = reading.select(ids_of_chunk[i])
            tokens += ids_of_chunk
            bar.advance(len(chunk))
    return pd.Series(tokens, dtype=object), lengths


if __name__ == "__main__":
    console.run(main)
