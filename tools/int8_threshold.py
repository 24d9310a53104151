"""The decision threshold and temperature of an int8 model, chosen on validation by its own scores."""

import sys
from pathlib import Path

from cleantune import files
from cleantune.data import tables
from cleantune.evaluation import threshold
from cleantune.evaluation.threshold import Decision
from cleantune.models.onnx_model import INT8, OnnxClassifier

VALIDATION = tables.CLEAN / "validation.parquet"


def decide(model: OnnxClassifier, folder: Path, main: Decision) -> Decision:
    """Return what the rule of ``main`` chooses for ``model``, the int8 graph in ``folder``.

    It is chosen on validation by the graph's own scores, once, and written beside the graph.
    Nothing is chosen where nothing was for the model in full precision, or, which is said, where
    the same validation documents are not at hand.
    """
    graph = folder / INT8
    own = threshold.read(graph.parent, graph)
    if not main.documents or own.follows(main):
        return own
    if not VALIDATION.is_file() or files.sha256(VALIDATION) != main.validation_sha256:
        print(f"note: {VALIDATION}, as the model was measured with, is not at hand: no threshold and "
              "no temperature is chosen for int8", file=sys.stderr)  # fmt: skip
        return threshold.DEFAULT
    table = tables.read_table(VALIDATION)
    print(f"choosing for int8 on {len(table):,} validation documents, once", file=sys.stderr)
    logits = model.logits(model.encode(tables.full_text(table)))
    found = main.fitted(table["label"].to_numpy(), logits, model.labels)
    threshold.write(graph.with_name(threshold.FILE), [(found, [graph])])
    return found
