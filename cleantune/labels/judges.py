"""The models that judge labels, as ``label_noise.model`` names them."""

from typing import Any

from cleantune.distributed import connection
from cleantune.labels import confident_learning as lq
from cleantune.models import encoder
from cleantune.params.read import LabelNoise

MAX_LENGTH = 128  # tokens of a document that the encoder reads


def look(
    texts: list[str],
    labels: lq.Ints,
    fold: lq.Ints,
    settings: LabelNoise,
    seed: int,
    vectors: Any = None,
) -> tuple[list[lq.View], Any]:
    """Return the views that ``label_noise.model`` names, and the documents' vectors if it has any.

    ``labels`` and ``fold``, both (n,), are those of ``label_quality``. ``vectors`` (n, size) are
    computed where they are not given, by the encoder that ``stages.fetch_models`` recorded.
    """
    views: list[lq.View] = []
    if settings.model == "tfidf":
        return [lq.tfidf_view(texts)], None
    if settings.model == "finetuned":
        from cleantune.labels import fine_tuned_judge  # takes seconds, and only this model needs it

        folder = encoder.recorded_folder(encoder.ENCODER)
        found = fine_tuned_judge.probabilities(
            texts, labels, fold, folder, settings, seed, MAX_LENGTH
        )
        views.append(lq.fixed_view(found))
    if vectors is None:
        folder = encoder.recorded_folder(encoder.ENCODER)
        vectors = encoder.vectors(texts, folder, MAX_LENGTH, connection.bf16_is_fast())
    views += lq.vector_views(vectors)
    if settings.model in ("ensemble", "finetuned"):
        views.append(lq.tfidf_view(texts))
    return views, vectors
