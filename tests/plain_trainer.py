"""Fine-tuning by transformers' own Trainer, without DeepSpeed: its loss, optimizer and clipping.

The model, with what makes it fast, the order of the batches and what keeps Trainer quiet are the
project's. Writes ``plain.safetensors``.
"""

from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments, set_seed

from cleantune.data import tables
from cleantune.distributed import connection
from cleantune.models import precision
from cleantune.params.read import read_params
from cleantune.training import acceleration, batches, optimizers, training_arguments
from stages import finetune
from tests import tiny


class Plain(Trainer):
    """Trainer with batches in a given order."""

    def get_train_dataloader(self) -> Any:
        """Return the project's batches, less what only the project's loss uses."""
        data: Any = self.train_dataset
        share = batches.Share(data, self.args.per_device_train_batch_size, self.args.seed, 0, 1, 1)
        pad = batches.Collator(data, 0)

        def collate(documents: Any) -> Any:
            batch = pad(documents)
            return {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}

        loader = batches.Loader(share, data, pad)
        loader.collate_fn = collate
        return loader


def main() -> None:
    """Train and write the last weights."""
    params = read_params(finetune.PARAMS)
    connection._quiet()
    args = TrainingArguments(
        output_dir="plain",
        seed=params.seed,
        num_train_epochs=params.epochs,
        per_device_train_batch_size=params.batch_size,
        learning_rate=params.lr,
        weight_decay=params.finetune.weight_decay,
        warmup_steps=params.finetune.warmup,
        max_grad_norm=params.finetune.max_gradient_norm,
        optim="adamw_torch_fused",
        use_cpu=True,
        **{k: v for k, v in training_arguments.QUIET.items() if k != "accelerator_config"},
    )
    # The head is drawn at random: from the same state as in the project.
    set_seed(params.seed)
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        "base", num_labels=len(tiny.CLASSES)
    )
    acceleration.speed_up(model, precision.use_bf16(params.precision))
    optimizers.freeze(model, params.finetune.freeze_embeddings, params.finetune.freeze_layers)
    data = batches.TokenDataset(tables.read_table(finetune.TRAIN))
    trainer = Plain(model, args, train_dataset=data)
    trainer.model_accepts_loss_kwargs = False  # else its loss grows with accumulation
    trainer.train()
    save_file(model.state_dict(), Path("plain.safetensors"))
