"""Continue pretraining, or use the base model as it is.

    python -m stages.pretrain

With ``pretrain.epochs: 0`` the output is a pointer to the base model; nothing is copied. Otherwise
it is pretrained on the training documents, with the same trainer as fine-tuning: any number of
processes, any ZeRO stage, resumed after an interruption. Encoders predict masked tokens, decoders
the next one. With ``pretrain.from_scratch`` the weights are initialised at random and the tokenizer
is trained on that text.
"""

import shutil
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, BertForMaskedLM
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from cleantune import console, files
from cleantune.data import tables
from cleantune.distributed import connection, launcher, ranks
from cleantune.errors import UserError
from cleantune.models import encoder, from_scratch, precision
from cleantune.params.read import read_params
from cleantune.params.sections import Pretrain
from cleantune.training import (
    acceleration,
    checkpoints,
    deepspeed_config,
    fingerprint,
    language_modeling,
    memory,
    training_arguments,
)
from cleantune.training.training_arguments import PLAIN

LOGITS = 2**28  # of a forward pass of a decoder: 1 GB in fp32
PARAMS = ("seed", "pretrain", "zero_stage", "precision", "kernels", "processes")
TRAIN, VALIDATION = tables.LABELS / "train.parquet", tables.CLEAN / "validation.parquet"


def main() -> None:
    """Write a pointer to the base model, or pretrain."""
    params = read_params(PARAMS)
    if params.pretrain.epochs == 0:
        return write_pointer()
    if not launcher.launch("stages.pretrain", params.processes):
        return None
    connection.prepare(params.seed)
    console.title("pretrain", "continue pretraining on the training text")

    # ---- text and tokenizer
    texts = [tables.full_text(tables.read_table(path)) for path in (TRAIN, VALIDATION)]
    options, name = params.pretrain, files.read_json(encoder.MODEL)["model"]
    base, head = None, AutoModelForMaskedLM
    if options.from_scratch:
        tokenizer = from_scratch.own_tokenizer(texts[0], options.vocabulary, options.block_length)
    else:
        base = encoder.recorded_folder(encoder.MODEL)
        tokenizer = encoder.load_tokenizer(base)
        head = language_model(options, name, base, tokenizer)
    masked = head is AutoModelForMaskedLM
    tokens = [tokenizer(t, return_attention_mask=False, verbose=False)["input_ids"] for t in texts]
    if not masked:
        tokens = [language_modeling.ended(ids, tokenizer.eos_token_id) for ids in tokens]
    for path, ids in zip((TRAIN, VALIDATION), tokens, strict=True):
        if sum(map(len, ids)) < (1 if masked else 2):
            raise UserError(f"pretrain: the documents of {path} have too few tokens to predict any from the "
                            "others. Set pretrain.epochs to 0, or add documents.")  # fmt: skip
    share = options.masked_share if masked else None
    train, validation = (language_modeling.pack(ids, options.block_length, share) for ids in tokens)
    config = (encoder.load_config(base) if base
              else from_scratch.own_config(options, len(tokenizer)))  # fmt: skip
    stage, why = memory.zero_stage(params.zero_stage, memory.size_of(config, PLAIN))
    bf16 = precision.use_bf16(params.precision)
    run = fingerprint.of_run(
        params.model_dump(exclude={"processes"}) | {"zero_stage": stage, "bf16": bf16},
        [TRAIN, VALIDATION, deepspeed_config.CONFIG, *([base] if base else [])],
    )
    unfinished = checkpoints.Checkpoints("pretrain", run)

    plain = PLAIN
    if not masked:  # the logits of a forward pass are over the whole vocabulary, for every token
        micro = max(1, LOGITS // (options.block_length * len(tokenizer)))
        plain = PLAIN.model_copy(update={"micro_batch_size": min(micro, options.batch_size)})

    # ---- model (after the arguments, because ZeRO-3 partitions it while loading)
    memory.give_back_freed(stage)
    args = training_arguments.build(
        unfinished.folder, plain, seed=params.seed, lr=options.lr, epochs=options.epochs,
        batch_size=options.batch_size, zero_stage=stage, eval_batch_size=32,  # the logits are over the whole vocabulary
    )  # fmt: skip
    if base:
        model, loading = encoder.load_model(head, base, output_loading_info=True)
        if loading["missing_keys"]:
            console.say(f"{name} has no language-model head: a new one is initialised")
    else:
        model = BertForMaskedLM(config)
    padding_id = encoder.set_padding(model.config, tokenizer)
    acceleration.speed_up(model, bf16, params.kernels)
    console.say(f"{len(train):,} blocks of {options.block_length} tokens, "
                f"{memory.size(model).trainable:,} parameters; {ranks.world_size()} "
                f"process(es), {'bf16' if bf16 else 'fp32'}, ZeRO-{stage}: {why}")  # fmt: skip

    # ---- train
    trainer = language_modeling.LanguageModelTrainer(
        model, args, train, validation, padding_id=padding_id,
        batch_size=options.batch_size, validation_metrics=lambda *_: {}, checkpoints=unfinished, options=plain,
    )  # fmt: skip
    trainer.collators = [
        language_modeling.Masker(data, tokenizer, params.seed, share, options.whole_words)
        if share else language_modeling.NextTokens(data, padding_id) for data in (train, validation)
    ]  # fmt: skip
    trainer.fit()

    # ---- save
    if ranks.rank() == 0:
        with (
            unfinished.full_disk_error("the model"),
            files.atomic_folder(encoder.PRETRAINED) as out,
        ):
            shutil.copytree(trainer.best_folder, out, dirs_exist_ok=True)
            tokenizer.save_pretrained(out)
            files.write_json(out / "pretraining.json", {"base_model": "none" if options.from_scratch else name,
                "perplexity_before": trainer.before["perplexity"], "perplexity_after": trainer.best["perplexity"],
                "best_epoch": trainer.best["epoch"], "blocks": len(train)})  # fmt: skip
    unfinished.discard()
    console.say(f"perplexity of {'masked' if masked else 'next'} validation tokens: {trainer.before['perplexity']:.1f} before, "
                f"{trainer.best['perplexity']:.1f} after")  # fmt: skip
    console.outputs(encoder.PRETRAINED)
    return None


def write_pointer() -> None:
    """Copy the pointer to the base model."""
    console.title("pretrain", "use the base model as it is")
    pointer = files.read_json(encoder.MODEL)
    with files.atomic_folder(encoder.PRETRAINED) as out:
        files.write_json(out / encoder.POINTER, pointer)
    console.say(f"pretrain.epochs is 0: fine-tuning starts from the base model {pointer['model']}")
    console.outputs(encoder.PRETRAINED)


def language_model(options: Pretrain, name: str, base: Path, tokenizer: Any) -> Any:
    """Return the kind of model, with a language-model head, that ``base`` is pretrained as.

    Raises ``UserError`` for a model without such a head, or with too short a context.
    """
    kind = encoder.load_config(base).model_type
    if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and tokenizer.mask_token_id is not None:
        found: Any = AutoModelForMaskedLM
    elif encoder.is_decoder(kind):
        found = AutoModelForCausalLM
    else:
        raise UserError(
            f"pretrain.epochs: {options.epochs} needs a language model, and {name} ({kind}) has neither "
            "a masked-language head with a mask token nor a decoder's head. Set pretrain.epochs to 0, "
            "or model to another one, such as bert, roberta or smollm2."
        )
    encoder.refuse_longer("pretrain.block_length", options.block_length, base)
    return found


if __name__ == "__main__":
    console.run(main)
