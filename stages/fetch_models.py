"""Find the base models, download them from the Hub if needed, and record the hash of every file.

    python -m stages.fetch_models

Beside ``download``, the only stage that may use the network. Later stages depend on one
record each, not on the params: another entry of ``models``, or another ``model``, does not rerun
label_noise.
"""

from typing import Any

from cleantune import console, files
from cleantune.models import encoder
from cleantune.params.read import read_params
from cleantune.params.sources import Model

PARAMS = ("model", "models", "label_noise", "pretrain")


def main() -> None:
    """Write a record for pretraining and fine-tuning, and one for the label models."""
    params = read_params(PARAMS)
    console.title("fetch_models", "find the base models")
    needed = {
        encoder.MODEL: None if params.pretrain.from_scratch else params.model,
        encoder.ENCODER: None
        if params.label_noise.model == "tfidf"
        else params.label_noise.encoder,
    }
    records = {path: record(model, params.models) for path, model in needed.items()}
    for path, content in records.items():
        files.write_json(path, content)
        console.say(f"{path.stem}: {content['model'] or 'none needed'}")
    console.outputs(*records)


def record(model: str | None, models: dict[str, Model]) -> dict[str, Any]:
    """Return what ``encoder.recorded_folder`` reads; of no model where none is needed."""
    if model is None:
        return {"model": None, "entry": None, "files": {}}
    return encoder.pointer_to(model, models.get(model), encoder.find(model, models))


if __name__ == "__main__":
    console.run(main)
