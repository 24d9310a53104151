"""Choose the model that fine-tuning starts from.

    python -m stages.pretrain

With ``pretrain.epochs: 0`` the base model serves as it is: a small pointer names it, nothing is
copied.
"""

from stages.common import console, encoder, files
from stages.common.params import read_params

READS = ("model", "models", "pretrain")


def main() -> None:
    """Write a pointer to the base model."""
    params = read_params(READS)
    console.title("pretrain", "choose the model that fine-tuning starts from")

    # ---- the base model, its bytes checked
    folder = encoder.find(params.model, params.models)
    weights = files.sha256(folder / encoder.WEIGHTS)

    # ---- a pointer to it
    entry = params.models.get(params.model)
    with files.atomic_folder(encoder.PRETRAINED) as out:
        files.write_json(
            out / encoder.POINTER,
            {
                "model": params.model,
                "entry": entry.model_dump() if entry else None,
                "sha256": weights,
            },
        )
    console.say(f"pretrain.epochs is 0: the base model {params.model} serves as it is")
    console.outputs(encoder.PRETRAINED)


if __name__ == "__main__":
    console.run(main)
