"""Tiny random models of the architectures we promise to train, each with a tokenizer of its own kind.

The tokenizers are real ones, trained on the sample corpus: what differs between architectures is
less the network than which tokens open and close a text, which one pads, and how words are cut.
"""

import csv
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerFast,
)

from tests.conftest import REPOSITORY

VOCABULARY = 400
POSITIONS = 80
SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 64, "max_position_embeddings": POSITIONS}  # fmt: skip
BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROBERTA = ("<pad>", "<unk>", "<s>", "</s>", "<mask>")
ORDER = {"<s>": 0, "<pad>": 1, "</s>": 2}  # of RoBERTa: its places count from the padding's number
HEADS = {"num_key_value_heads": 1, "head_dim": 16, "num_attention_heads": 2}
ENCODERS: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    # model type: kind of tokenizer, its special tokens (pad, unknown, start, end, mask), own shape
    "bert": ("wordpiece", BERT, {}),
    "roberta": ("bytes", ROBERTA, {"max_position_embeddings": POSITIONS + 2, "type_vocab_size": 1}),
    "distilbert": ("wordpiece", BERT, {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}),
    "deberta": ("bytes", BERT, {"relative_attention": True, "pos_att_type": ["c2p", "p2c"],
                                "position_biased_input": False, "type_vocab_size": 0,
                                "pooler_hidden_size": 32}),
    "deberta-v2": ("pieces", BERT, {"relative_attention": True, "pos_att_type": ["p2c", "c2p"],
                                    "position_biased_input": False, "type_vocab_size": 0,
                                    "position_buckets": 16, "norm_rel_ebd": "layer_norm",
                                    "share_att_key": True, "pooler_hidden_size": 32,
                                    "pooler_dropout": 0}),
    "modernbert": ("bytes", BERT, {"local_attention": 16}),
    "electra": ("wordpiece", BERT, {"embedding_size": 16}),
}  # fmt: skip
DECODERS: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    # the same, with the special tokens (pad, start, end), "" for none; GPT-2 has one for all
    "gpt2": ("bytes", ("<|endoftext|>",), {"n_embd": 32, "n_layer": 2, "n_head": 2,
                                           "n_positions": POSITIONS}),
    "llama": ("bytes", ("", "<s>", "</s>"), HEADS),
    "qwen2": ("bytes", ("<|endoftext|>", "", "<|im_end|>"), {**HEADS, "pad_token_id": None}),
    "qwen3": ("bytes", ("<|endoftext|>", "", "<|im_end|>"), {**HEADS, "pad_token_id": None}),
    "mistral": ("bytes", ("", "<s>", "</s>"), {**HEADS, "sliding_window": 16}),
    "gemma2": ("bytes", ("<pad>", "<bos>", "<eos>"), {**HEADS, "sliding_window": 16,
                                                      "attn_logit_softcapping": 0.5}),
    "gemma3_text": ("bytes", ("<pad>", "<bos>", "<eos>"), {
        **HEADS, "sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}),
    "phi3": ("bytes", ("<|endoftext|>", "<s>", "</s>"), HEADS),
}  # fmt: skip
KINDS = ENCODERS | DECODERS


EMBEDDINGS = {  # how the names of a classifier's embeddings begin
    "deberta": ("deberta.embeddings.", "deberta.encoder.rel_embeddings."),
    "deberta-v2": ("deberta.embeddings.", "deberta.encoder.rel_embeddings.",
                   "deberta.encoder.LayerNorm."),
    "modernbert": ("model.embeddings.",),
    "electra": ("electra.embeddings.", "electra.embeddings_project."),
    "gpt2": ("transformer.wte.", "transformer.wpe."),
    **{kind: (f"{kind}.embeddings.",) for kind in ("bert", "distilbert", "roberta")},
}  # fmt: skip


def depth(architecture: str, name: str) -> int:
    """Return where a classifier's parameter is: 0 embeddings, 1 and 2 its layers, 3 the head."""
    if name.startswith(EMBEDDINGS.get(architecture, ("model.embed_tokens.",))):
        return 0
    layer = re.search(r"\.(?:layers?|h)\.(\d)\.", name)
    return int(layer[1]) + 1 if layer else 3


@cache
def texts() -> list[str]:
    """Return the sample corpus."""
    with (REPOSITORY / "data/sample/train.csv").open(encoding="utf-8", newline="") as file:
        return [f"{title}. {text}" for _, title, text in csv.reader(file)]


@cache
def tokenizer(kind: str, special: tuple[str, ...]) -> Any:
    """Train a tokenizer on the corpus; one with a single special token frames no text with it."""
    model, trainer, cut, decoder = _parts(kind, special)
    built = Tokenizer(model)
    built.pre_tokenizer = cut
    built.decoder = decoder
    if kind == "wordpiece":
        built.normalizer = normalizers.BertNormalizer()
    built.train_from_iterator(texts()[:300], trainer)
    names = {}
    if len(special) == 3:
        names = dict(zip(("pad_token", "bos_token", "eos_token"), special, strict=True))
        names = {name: token for name, token in names.items() if token}
        if start := names.get("bos_token"):
            ids = [(start, built.token_to_id(start))]
            built.post_processor = processors.TemplateProcessing(f"{start} $A", None, ids)
    elif len(special) > 1:
        pad, unknown, start, end, mask = special
        ids = [(token, built.token_to_id(token)) for token in (start, end)]
        built.post_processor = processors.TemplateProcessing(f"{start} $A {end}", None, ids)
        names = {"pad_token": pad, "unk_token": unknown, "cls_token": start, "sep_token": end,
                 "mask_token": mask}  # fmt: skip
    else:
        names = {"eos_token": special[0], "bos_token": special[0], "unk_token": special[0]}
    build: Any = PreTrainedTokenizerFast
    return build(tokenizer_object=built, model_max_length=POSITIONS, **names)


def _parts(kind: str, special: tuple[str, ...]) -> tuple[Any, Any, Any, Any]:
    common: dict[str, Any] = {"vocab_size": VOCABULARY, "show_progress": False,
                              "special_tokens": sorted(filter(None, special), key=lambda t: ORDER.get(t, 9))}  # fmt: skip
    if kind == "wordpiece":
        return (models.WordPiece(unk_token=special[1]), trainers.WordPieceTrainer(**common),
                pre_tokenizers.BertPreTokenizer(), decoders.WordPiece())  # fmt: skip
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return (models.BPE(), trainers.BpeTrainer(initial_alphabet=alphabet, **common),
            pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel())  # fmt: skip


def write_pieces(folder: Path, special: tuple[str, ...]) -> Any:
    """Write a tokenizer as DeBERTa's repositories on the Hub have it, in one spm.model; return it."""
    pad, unknown, start, end, mask = special
    folder.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts()[:300]), model_prefix=str(folder / "spm"), vocab_size=VOCABULARY,
        pad_id=0, bos_id=1, eos_id=2, unk_id=3, pad_piece=pad, bos_piece=start, eos_piece=end,
        unk_piece=unknown, user_defined_symbols=[mask], minloglevel=2,
    )  # fmt: skip
    (folder / "spm.vocab").unlink()
    settings = {"do_lower_case": False, "vocab_type": "spm", "model_max_length": POSITIONS}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    build: Any = AutoTokenizer
    return build.from_pretrained(folder, config=AutoConfig.for_model("deberta-v2"))


def config(architecture: str, reader: Any, **changes: Any) -> PretrainedConfig:
    """Return a tiny model's configuration; a token that ``reader`` lacks it lacks, too."""
    ids = {f"{name}_token_id": getattr(reader, f"{name}_token_id")
           for name in ("pad", "bos", "eos", "cls", "sep")}  # fmt: skip
    shape = {"distilbert": {"max_position_embeddings": POSITIONS}, "gpt2": {}}.get(
        architecture, SHAPE  # these two have other names for the same
    )  # fmt: skip
    settings = {"vocab_size": len(reader), "initializer_range": 0.2, **ids, **shape}
    return AutoConfig.for_model(architecture, **settings | KINDS[architecture][2] | changes)


def rounded(model: Any) -> Any:
    """Return ``model`` with weights that are the same in fp32, bf16 and fp16."""
    for weight in model.parameters():
        weight.data = weight.data.bfloat16().half().bfloat16().float()
    return model


def write(
    folder: Path, architecture: str, language_head: bool = False, dtype: torch.dtype = torch.float32
) -> Path:
    """Write a base model of random weights, and its tokenizer, to ``folder``; return it."""
    torch.manual_seed(0)
    kind, special, _ = KINDS[architecture]
    if kind == "pieces":
        reader = write_pieces(folder, special)
    else:
        reader = tokenizer(kind, special)
        reader.save_pretrained(folder)
    build: Any = AutoModel
    if language_head:
        build = AutoModelForMaskedLM if len(special) == 5 else AutoModelForCausalLM
    model = rounded(build.from_config(config(architecture, reader)))
    model.to(dtype).save_pretrained(folder)
    return folder
