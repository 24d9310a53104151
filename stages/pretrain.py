"""Continue masked-language-model pretraining, or use the base model as it is.

    python -m stages.pretrain

With ``pretrain.epochs: 0`` the output is a pointer to the base model; nothing is copied. Otherwise
it is pretrained on the training documents, with the same trainer as fine-tuning: any number of
processes, any ZeRO stage, resumed after an interruption. With ``pretrain.from_scratch`` the weights
are initialised at random and the tokenizer is trained on that text.
"""

import shutil
from pathlib import Path
from typing import Any

from transformers import (
    AutoModelForMaskedLM,
    BertForMaskedLM,
)
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
    masked_lm,
    memory,
    training_arguments,
)
from cleantune.training.training_arguments import PLAIN

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
    console.title("pretrain", "masked-language-model pretraining on the training text")

    # ---- text and tokenizer
    texts = [tables.full_text(tables.read_table(path)) for path in (TRAIN, VALIDATION)]
    options, name = params.pretrain, files.read_json(encoder.MODEL)["model"]
    if options.from_scratch:
        base, tokenizer = (
            None,
            from_scratch.own_tokenizer(texts[0], options.vocabulary, options.block_length),
        )
    else:
        base = encoder.recorded_folder(encoder.MODEL)
        tokenizer = encoder.load_tokenizer(base)
        raise_if_not_masked_lm(options, name, base, tokenizer)
    train, validation = (masked_lm.pack(tokenizer(t, return_attention_mask=False, verbose=False)["input_ids"],
                                      options.block_length, options.masked_share) for t in texts)  # fmt: skip
    config = (encoder.load_config(base) if base
              else from_scratch.own_config(options, len(tokenizer)))  # fmt: skip
    stage, why = memory.zero_stage(params.zero_stage, memory.size_of(config, PLAIN))
    bf16 = precision.use_bf16(params.precision)
    run = fingerprint.of_run(
        params.model_dump(exclude={"processes"}) | {"zero_stage": stage, "bf16": bf16},
        [TRAIN, VALIDATION, deepspeed_config.CONFIG, *([base] if base else [])],
    )
    unfinished = checkpoints.Checkpoints("pretrain", run)

    # ---- model (after the arguments, because ZeRO-3 partitions it while loading)
    args = training_arguments.build(
        unfinished.folder, PLAIN, seed=params.seed, lr=options.lr, epochs=options.epochs,
        batch_size=options.batch_size, zero_stage=stage, eval_batch_size=32,  # the logits are over the whole vocabulary
    )  # fmt: skip
    if base:
        model, loading = encoder.load_model(AutoModelForMaskedLM, base, output_loading_info=True)
        if loading["missing_keys"]:
            console.say(f"{name} has no masked-language head: a new one is initialised")
    else:
        model = BertForMaskedLM(config)
    padding_id = encoder.set_padding(model.config, tokenizer)
    acceleration.speed_up(model, bf16, params.kernels)
    console.say(f"{len(train):,} blocks of {options.block_length} tokens, "
                f"{memory.size(model).trainable:,} parameters; {ranks.world_size()} "
                f"process(es), {'bf16' if bf16 else 'fp32'}, ZeRO-{stage}: {why}")  # fmt: skip

    # ---- train
    trainer = masked_lm.MaskedLMTrainer(
        model, args, train, validation, padding_id=padding_id,
        batch_size=options.batch_size, validation_metrics=lambda *_: {}, checkpoints=unfinished, options=PLAIN,
    )  # fmt: skip
    trainer.collators = [masked_lm.Masker(data, tokenizer, params.seed, options.masked_share, options.whole_words)
                        for data in (train, validation)]  # fmt: skip
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
    console.say(f"perplexity of masked validation tokens: {trainer.before['perplexity']:.1f} before, "
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


def raise_if_not_masked_lm(options: Pretrain, name: str, base: Path, tokenizer: Any) -> None:
    """Raise ``UserError`` for a model without masked-language head, or with too short a context."""
    kind = encoder.load_config(base).model_type
    if kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES or tokenizer.mask_token_id is None:
        raise UserError(
            f"pretrain.epochs: {options.epochs} needs a masked language model, and {name} "
            f"({kind}) has no masked-language head or no mask token. Set pretrain.epochs "
            "to 0, or model to a bidirectional encoder, such as bert or roberta."
        )
    encoder.refuse_longer("pretrain.block_length", options.block_length, base)


if __name__ == "__main__":
    console.run(main)
