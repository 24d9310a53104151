"""Tokenize the documents for the model; the token ids are stored without padding.

    python -m stages.tokenize_text

What is read of documents longer than ``max_length`` tokens, ``long_documents`` decides; where many
are cut, or the tokenizer does not know their script, the stage says what helps. data/tokens/summary.json
has the counts. With ``augment`` changed copies of the
training documents follow them. A stage of its own, so that another ``lr`` does not tokenize again.
Of a large corpus parts are kept in .checkpoints/tokenize_text/ until all is done: a run that was killed goes
on after the last of them.
"""

import json
import shutil
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerBase

from cleantune import console, files
from cleantune.augmentation import copies
from cleantune.data import tables
from cleantune.models import encoder, long_documents, token_counts
from cleantune.models.long_documents import Reading
from cleantune.params.read import read_params
from cleantune.training import fingerprint

PARAMS = ("seed", "max_length", "long_documents", "max_chunks", "augment")
SOURCES = {
    "train": tables.LABELS / "train.parquet",
    "validation": tables.CLEAN / "validation.parquet",
    "test": tables.CLEAN / "test.parquet",
}
COLUMNS = ("id", "input_ids", "label", "length", "weight")
CHUNK = 5_000  # documents per call: enough for all cores
PART = 50_000  # documents that are kept together of an unfinished run
UNFINISHED = Path(".checkpoints/tokenize_text")
WHOLE, COUNTS = "whole", b"counts"
SCHEMA = pa.schema([*((name, tables.type_of(name)) for name in COLUMNS), (WHOLE, pa.int64())])


def main() -> None:
    """Tokenize the three splits."""
    params = read_params(PARAMS)
    console.title("tokenize_text", "tokenize the documents")
    pa.set_memory_pool(pa.system_memory_pool())  # Arrow's own keeps what it grew through

    # ---- the tokenizer of the model that will be fine-tuned
    folder = encoder.pretrained_folder(encoder.PRETRAINED)
    tokenizer = encoder.load_tokenizer(folder)
    encoder.refuse_longer("max_length", params.max_length, folder)
    reading = long_documents.reading(
        params.long_documents, params.max_length, params.max_chunks,
        lambda text, special: tokenizer(text, add_special_tokens=special)["input_ids"],
    )  # fmt: skip

    # ---- all splits alike; only training documents carry weights
    decides = params.model_dump(include=set(PARAMS))
    run = UNFINISHED / fingerprint.of_run(decides, [*SOURCES.values(), encoder.PRETRAINED])
    rows = []
    counted = {}
    with files.atomic_folder(tables.TOKENS) as out:
        for split, path in SOURCES.items():
            weight = ("weight",) if split == "train" else ()
            table = tables.read_table(path, (*tables.TEXT_COLUMNS, *weight), soft=True)
            if split == "train":
                table = copies.with_copies(
                    table, params.augment, params.seed, folder, tokenizer, params.max_length
                )
            with console.Bar(f"tokenizing {split}", len(table)) as bar:
                parts = [
                    tokenized(
                        run / f"{split}-{start}.parquet" if len(table) > PART else None,
                        tokenizer, table.iloc[start : start + PART], reading, bar,
                    )
                    for start in range(0, len(table) or 1, PART)
                ]  # fmt: skip
            tokens = pa.concat_tables(parts)
            for column in tables.with_soft_labels((), table):
                tokens = tokens.append_column(column, pa.array(table[column]))
            del table
            counted[split] = token_counts.of_sums(
                [json.loads(part.schema.metadata[COUNTS]) for part in parts],
                tokens[WHOLE].to_numpy(), reading,
            )  # fmt: skip
            del parts
            columns = tables.with_soft_labels(COLUMNS, tokens.column_names)
            tables.write_table(out / f"{split}.parquet", tokens, columns)
            lengths = tokens["length"].to_pandas()
            rows.append((split, len(tokens), int(lengths.sum()), f"{lengths.mean():.1f}",
                         int(lengths.max()), counted[split].truncated))  # fmt: skip
        summary = {split: counts.summary() for split, counts in counted.items()}
        files.write_json(out / "summary.json", summary)
    shutil.rmtree(UNFINISHED, ignore_errors=True)

    # ---- report
    columns = ("split", "documents", "tokens", "mean", "longest", "truncated")
    console.table(f"Tokens (at most {reading.limit} a document)", columns, rows)
    limit = encoder.position_limit(encoder.load_config(folder))
    for warning in token_counts.warnings(counted["train"], encoder.base_model(), limit):
        console.warn(warning)
    console.outputs(tables.TOKENS)


def tokenized(
    kept: Path | None,
    tokenizer: PreTrainedTokenizerBase,
    documents: pd.DataFrame,
    reading: Reading,
    bar: console.Bar,
) -> pa.Table:
    """Return ``COLUMNS`` of documents, and ``WHOLE``, with their counts in the metadata ``COUNTS``.

    That is what the file ``kept`` holds, where there is one; else the tokens are written to it.
    """
    if kept and kept.is_file():
        bar.advance(len(documents))
        return pq.read_table(kept)
    chunks, counts = [], []
    for start in range(0, len(documents) or 1, CHUNK):
        chunk = documents.iloc[start : start + CHUNK]
        texts = tables.full_text(chunk)
        tokens, whole = tokenize(tokenizer, texts, reading)
        counted = int((chunk.index < token_counts.COUNTED_WORDS).sum())
        unknown = tokenizer.unk_token_id
        counts.append(token_counts.count(texts, tokens, whole, unknown, reading, counted))
        columns = [chunk["id"], tokens, chunk["label"], [len(ids) for ids in tokens],
                   chunk.get("weight", pd.Series(1.0, chunk.index)), whole]  # fmt: skip
        chunks.append(
            pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], SCHEMA)
        )
        bar.advance(len(chunk))
    found = json.dumps(token_counts.joined(counts).sums())
    table = pa.concat_tables(chunks).replace_schema_metadata({COUNTS: found})
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with files.atomic_file(kept) as part:
            pq.write_table(table, part)
    return table


def tokenize(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], reading: Reading
) -> tuple[list[list[int]], list[int]]:
    """Return what is read of each text, as token ids with special tokens, and each text's whole length."""
    tokens: list[list[int]] = tokenizer(
        texts, return_attention_mask=False, return_token_type_ids=False, verbose=False
    )["input_ids"]
    lengths = [len(ids) for ids in tokens]
    for i in (i for i, length in enumerate(lengths) if length > reading.max_length):
        if reading.method == "head":
            tokens[i] = tokenizer(texts[i], truncation=True, max_length=reading.max_length)[
                "input_ids"
            ]
        else:
            tokens[i] = reading.select(tokens[i])
    return tokens, lengths


if __name__ == "__main__":
    console.run(main)
