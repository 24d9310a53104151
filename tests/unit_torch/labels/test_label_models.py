"""Which label models ``label_noise.model`` names, on what they are fitted, and in which order."""

import numpy as np
import pytest

from cleantune.labels import fine_tuned_label_model, label_models
from cleantune.models import encoder, precision
from cleantune.params.read import read_params
from tests import tiny
from tests.conftest import REPOSITORY

TEXTS = [f"w{i % 7} w{i % 3} w{i}" for i in range(24)]
LABELS, FOLD = np.arange(24) % 3, np.arange(24) % 2
FIT, HELD_OUT = np.flatnonzero(FOLD == 0), np.flatnonzero(FOLD == 1)


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """The settings of params.yaml, in a folder whose recorded encoder has two layers."""
    monkeypatch.chdir(tmp_path)
    tiny.write_model(tmp_path / "base", 0.0)
    tiny.record_base(tmp_path)
    (tmp_path / "params.yaml").write_bytes((REPOSITORY / "params.yaml").read_bytes())
    return read_params(["label_noise"]).label_noise


def predicted(models):
    return [model(FIT, HELD_OUT, np.eye(3)[LABELS]) for model in models]


def built(settings, name, vectors=None):
    chosen = settings.model_copy(update={"model": name})
    return label_models.build(TEXTS, LABELS, FOLD, chosen, 5, vectors)


def same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(predicted(found), predicted(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def test_tfidf_needs_no_encoder(settings):
    encoder.ENCODER.unlink()
    models, vectors = built(settings, "tfidf")
    same(models, [label_models.tfidf_label_model(TEXTS)])
    assert vectors is None


def test_tfidf_reads_a_script_without_blanks_by_characters():
    others = "天地人山水火木金土日月星"
    texts = [
        f"{others[i % 12]}{'好坏中'[label]}{others[i * 5 % 12]}" for i, label in enumerate(LABELS)
    ]
    found = label_models.tfidf_label_model(texts)(FIT, HELD_OUT, np.eye(3)[LABELS])
    assert (found.argmax(axis=1) == LABELS[HELD_OUT]).all()


def test_the_encoder_that_was_recorded_computes_the_vectors(settings):
    folder = encoder.recorded_folder(encoder.ENCODER)
    expected = encoder.vectors(TEXTS, folder, 128, precision.bf16_is_fast())
    models, vectors = built(settings, "encoder")
    np.testing.assert_array_equal(vectors, expected)
    same(models, label_models.embedding_label_models(expected))


def test_documents_are_read_up_to_128_tokens(settings, monkeypatch):
    seen: dict[str, object] = {}

    def vectors(texts, folder, max_length, bf16):
        seen.update(texts=texts, folder=folder, max_length=max_length, bf16=bf16)
        return np.eye(24)

    monkeypatch.setattr(encoder, "vectors", vectors)
    monkeypatch.setattr(precision, "bf16_is_fast", lambda: "as the processor has it")
    assert built(settings, "ensemble")[1].shape == (24, 24)
    assert seen == {"texts": TEXTS, "folder": encoder.recorded_folder(encoder.ENCODER),
                    "max_length": 128, "bf16": "as the processor has it"}  # fmt: skip


def test_the_ensemble_has_both_and_takes_vectors_that_are_there(settings):
    encoder.ENCODER.unlink()
    given = np.random.default_rng(0).normal(size=(24, 8))
    models, vectors = built(settings, "ensemble", given)
    assert vectors is given
    same(
        models, [*label_models.embedding_label_models(given), label_models.tfidf_label_model(TEXTS)]
    )


def test_finetuned_adds_out_of_fold_predictions_of_the_fine_tuned_encoder(settings, monkeypatch):
    shares = np.random.default_rng(1).dirichlet(np.ones(3), 24)
    seen = []

    def probabilities(*given):
        seen.append(given)
        return shares

    monkeypatch.setattr(fine_tuned_label_model, "probabilities", probabilities)
    given = np.random.default_rng(0).normal(size=(24, 8))
    models, _ = built(settings, "finetuned", given)
    same(models, [label_models.precomputed_label_model(shares),
                  *label_models.embedding_label_models(given), label_models.tfidf_label_model(TEXTS)])  # fmt: skip
    np.testing.assert_array_equal(predicted(models)[0], shares[HELD_OUT])
    chosen = settings.model_copy(update={"model": "finetuned"})
    assert len(seen) == 1
    texts, labels, fold, folder, *rest = seen[0]
    assert texts is TEXTS and labels is LABELS and fold is FOLD
    assert folder == encoder.recorded_folder(encoder.ENCODER)
    assert rest == [chosen, 5, 128]
