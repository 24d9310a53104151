"""A tokenizer trained on the corpus, and the config of a BERT with random weights."""

from typing import Any

from tokenizers import ByteLevelBPETokenizer
from tokenizers.processors import RobertaProcessing
from transformers import BertConfig, PreTrainedTokenizerFast

from cleantune.params.sections import Pretrain


def own_tokenizer(texts: list[str], vocabulary: int, length: int) -> Any:
    """Train a tokenizer of byte-level pieces on the corpus; it frames a text as BERT's does.

    The same texts give the same pieces, in every process and every run. WordPiece's trainer breaks
    ties by the order of a hash map (huggingface/tokenizers#1794).
    """
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]",
             "mask_token": "[MASK]"}  # fmt: skip
    pieces = ByteLevelBPETokenizer(add_prefix_space=True, lowercase=True)
    pieces.train_from_iterator(texts, vocab_size=vocabulary, min_frequency=2, show_progress=False,
                               special_tokens=[*names.values()])  # fmt: skip
    last, first = ((token, pieces.token_to_id(token)) for token in ("[SEP]", "[CLS]"))
    pieces.post_processor = RobertaProcessing(last, first)
    build: Any = PreTrainedTokenizerFast
    return build(tokenizer_object=pieces._tokenizer, model_max_length=length, **names)


def own_config(options: Pretrain, vocabulary: int) -> BertConfig:
    """Return the config of a BERT of ``options.layers`` layers."""
    heads = max(1, options.hidden // 32)
    while options.hidden % heads:  # each has the same share of the width
        heads -= 1
    return BertConfig(
        vocab_size=vocabulary, hidden_size=options.hidden, num_hidden_layers=options.layers,
        num_attention_heads=heads, intermediate_size=4 * options.hidden,
        max_position_embeddings=options.block_length,
    )  # fmt: skip
