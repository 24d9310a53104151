"""The classifier that fine-tuning trains: the base model, with what ``finetune`` freezes, adds or replaces."""

from pathlib import Path
from typing import Any

from transformers import AutoModelForSequenceClassification

from cleantune.models import encoder
from cleantune.params.sections import Finetune, Kernels
from cleantune.training import acceleration, lora, optimizers

FROM_BASE: dict[str, Any] = {
    "kind": AutoModelForSequenceClassification,
    "ignore_mismatched_sizes": True,  # a head for other classes is replaced
}


def load(folder: Path, config: Any, options: Finetune, bf16: bool, kernels: Kernels) -> Any:
    """Return the classifier that ``config`` describes, with the weights in ``folder`` and, where there are none, random ones.

    ``bf16`` is whether training multiplies in it. Raises ``UserError`` for ``options`` that the model cannot have.
    """
    model, loading = encoder.load_model(
        folder=folder, config=config, output_loading_info=True, **FROM_BASE
    )
    acceleration.speed_up(model, bf16, kernels)
    optimizers.freeze(model, options.freeze_embeddings, options.freeze_layers)
    new = loading["missing_keys"]
    model = lora.adapt(model, options.lora, encoder.base_model(), bf16=bf16, new=new)
    optimizers.refuse_r_drop_without_dropout(model, options)
    return model


def load_mapped(folder: Path, config: Any) -> Any:
    """Return the classifier as its files have it, the weights left in them: see ``encoder.load_mapped``."""
    return encoder.load_mapped(folder=folder, config=config, **FROM_BASE)
