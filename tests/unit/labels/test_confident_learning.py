"""Label quality: label models, folds, priors, fusing, EM, and what follows for the given labels."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy.special import logit, softmax
from scipy.stats import binom
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score
from threadpoolctl import threadpool_info, threadpool_limits

from cleantune.errors import UserError
from cleantune.labels import confident_learning as lq
from cleantune.labels import label_models, noise_rate


def clusters(n=90, classes=3, size=8, spread=0.5, seed=0):
    """Labels and unit vectors, the documents of a class around its centre."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    vectors = np.eye(classes, size)[labels] + spread * rng.normal(size=(n, size))
    return labels, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


HALF = np.arange(45), np.arange(45, 90)

# ---- label models


@pytest.mark.parametrize("strength", [0.1, 10.0])
def test_on_hard_targets_the_linear_model_is_logistic_regression(strength):
    labels, vectors = clusters()
    fit, held_out = HALF
    found = label_models.linear_label_model(vectors, strength)(fit, held_out, np.eye(3)[labels])
    model = LogisticRegression(C=strength, max_iter=200).fit(vectors[fit], labels[fit])
    assert found == pytest.approx(model.predict_proba(vectors[held_out]), abs=1e-4)


def test_the_linear_model_takes_targets_as_weights():
    labels, vectors = clusters()
    fit, held_out = HALF
    targets = 0.7 * np.eye(3)[labels] + 0.3 * np.eye(3)[(labels + 1) % 3]
    found = label_models.linear_label_model(vectors, 1.0)(fit, held_out, targets)
    twice = np.concatenate([vectors[fit]] * 2)
    classes = np.concatenate([labels[fit], (labels[fit] + 1) % 3])
    weight = np.repeat([0.7, 0.3], len(fit))
    model = LogisticRegression(C=1.0, max_iter=200).fit(twice, classes, sample_weight=weight)
    assert found == pytest.approx(model.predict_proba(vectors[held_out]), abs=1e-3)


def test_the_linear_model_leaves_out_traces_of_a_class_and_takes_their_scale_from_the_row():
    labels, vectors = clusters()
    fit, held_out = HALF
    hard = np.eye(3)[labels]
    label_model = label_models.linear_label_model(vectors, 1.0)
    plain = label_model(fit, held_out, hard)
    trace = 0.98 * hard + 0.02 * np.eye(3)[(labels + 1) % 3]
    assert label_model(fit, held_out, trace) == pytest.approx(plain, abs=0.01)
    # the same share of rows that count ten times as much, against a weaker penalty
    ten = label_models.linear_label_model(vectors, 0.1)(fit, held_out, 10 * trace)
    assert ten == pytest.approx(label_model(fit, held_out, trace), abs=1e-3)


def test_a_class_that_is_nowhere_in_the_targets_gets_nothing():
    labels, vectors = clusters()
    targets = np.eye(4)[labels]
    found = label_models.linear_label_model(vectors, 1.0)(*HALF, targets)
    assert found.shape == (45, 4)
    assert (found[:, 3] == 0).all()
    assert found.sum(axis=1) == pytest.approx(np.ones(45))


@pytest.mark.parametrize("block", [1, 7, 1024])
def test_neighbours_vote_by_similarity_and_no_class_is_ruled_out(block):
    labels, vectors = clusters()
    fit, held_out = HALF
    targets = np.eye(3)[labels]
    found = label_models.neighbour_label_model(vectors, 5, block)(fit, held_out, targets)
    for row, i in zip(found, held_out, strict=True):
        similarity = vectors[fit] @ vectors[i]
        near = np.argsort(-similarity)[:5]
        votes = np.exp(similarity[near]) @ targets[fit][near] / np.exp(similarity[near]).sum()
        assert row == pytest.approx((votes + 0.02) / 1.06)


def test_fewer_documents_than_neighbours_all_vote():
    labels, vectors = clusters()
    found = label_models.neighbour_label_model(vectors)(
        np.arange(3), np.arange(3, 90), np.eye(3)[labels]
    )
    assert found.shape == (87, 3)
    assert found.sum(axis=1) == pytest.approx(np.ones(87))
    assert found.min() > 0.05, "each class has one of the three votes"
    one = label_models.neighbour_label_model(vectors)(
        np.arange(1), np.arange(1, 90), np.eye(3)[labels]
    )
    assert one == pytest.approx(np.tile([1.02, 0.02, 0.02], (89, 1)) / 1.06)


def test_by_default_fifty_neighbours_vote():
    labels, vectors = clusters(300)
    fit, held_out = np.arange(200), np.arange(200, 300)
    targets = np.eye(3)[labels]
    default = label_models.neighbour_label_model(vectors)(fit, held_out, targets)
    assert default == pytest.approx(
        label_models.neighbour_label_model(vectors, 50)(fit, held_out, targets)
    )
    assert default != pytest.approx(
        label_models.neighbour_label_model(vectors, 51)(fit, held_out, targets)
    )


TEXTS = [
    "good film",
    "film good",
    "bad film",
    "film bad",
    "odd1 good film film",
    "odd2 film bad film",
]


def test_words_and_pairs_that_occur_twice_are_weighed_by_the_logarithm_of_their_count():
    texts = TEXTS * 2 + ["only here", "good good good good film"]
    labels = np.array([0, 1, 0, 1, 0, 1] * 2 + [0, 1])
    fit, held_out = np.arange(12), np.arange(14)
    found = label_models.tfidf_label_model(texts)(fit, held_out, np.eye(2)[labels])
    assert (found.argmax(axis=1) == labels)[:12].all(), "pairs tell good film from film good"
    features = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True).fit_transform(texts)
    expected = LogisticRegression(C=1.0, max_iter=200).fit(features[fit], labels[fit])
    assert found == pytest.approx(expected.predict_proba(features), abs=1e-4)


def test_of_vectors_there_is_a_linear_and_a_neighbour_model():
    labels, vectors = clusters()
    targets = np.eye(3)[labels]
    linear, neighbours = (
        label_model(*HALF, targets) for label_model in label_models.embedding_label_models(vectors)
    )
    assert linear == pytest.approx(label_models.linear_label_model(vectors, 10.0)(*HALF, targets))
    assert neighbours == pytest.approx(label_models.neighbour_label_model(vectors)(*HALF, targets))


def test_a_fixed_model_gives_what_was_found_once():
    found = np.arange(12.0).reshape(6, 2)
    given = label_models.precomputed_label_model(found)(
        np.array([0, 1]), np.array([4, 2]), np.zeros((6, 2))
    )
    assert given.tolist() == [[8, 9], [4, 5]]


# ---- folds


def test_folds_are_as_many_as_asked_for_and_about_equal_in_every_class():
    labels = np.repeat([0, 1], [80, 20])
    fold = lq.fold_numbers(labels, np.arange(100), 4, 0)
    assert fold.dtype == np.int64
    assert [np.bincount(labels[fold == k]).tolist() for k in range(4)] == [[20, 5]] * 4
    assert not np.array_equal(fold, np.sort(fold)), "shuffled"
    assert not np.array_equal(fold, lq.fold_numbers(labels, np.arange(100), 4, 1))
    assert np.array_equal(fold, lq.fold_numbers(labels, np.arange(100), 4, 0))


def test_what_is_in_one_group_is_in_one_fold():
    rng = np.random.default_rng(0)
    groups = rng.choice([f"g{k}" for k in range(70)], 400)
    fold = lq.fold_numbers(rng.integers(0, 3, 400), groups.tolist(), 4, 0)
    assert all(len(set(fold[groups == g])) == 1 for g in set(groups))
    assert set(fold) == set(range(4))


def test_one_class_has_nothing_to_be_compared_with():
    with pytest.raises(UserError) as said:
        lq.fold_numbers(np.zeros(9, int), np.arange(9), 3, 0)
    assert str(said.value).startswith("All training documents have the same label")
    assert str(said.value).endswith("Check `columns` and `labels` of the dataset in params.yaml.")


@pytest.mark.parametrize(
    ("small", "groups", "way_out"),
    [(3, 3, "Lower it to 3, add"), (2, 2, "Lower it to 2, add"), (1, 1, "Add"), (5, 1, "Add")],
)
def test_a_class_of_fewer_groups_than_folds_is_refused(small, groups, way_out):
    labels = np.repeat([0, 1], [20, small])
    group = np.concatenate([np.arange(20), 20 + np.arange(small) % groups])
    with pytest.raises(UserError) as said:
        lq.fold_numbers(labels, group, 4, 0)
    assert str(said.value) == (
        f"The smallest class has {groups} distinct training documents, too few for "
        f"label_noise.folds: 4. {way_out} documents of that class, or leave the class out of the data."
    )


def test_a_class_of_as_many_groups_as_folds_is_enough():
    labels = np.repeat([0, 1], [20, 4])
    fold = lq.fold_numbers(labels, np.arange(24), 4, 0)
    assert sorted(fold[20:]) == [0, 1, 2, 3]
    with pytest.raises(UserError, match="Lower it to 3, add documents"):
        lq.fold_numbers(labels[:-1], np.arange(23), 4, 0)


# ---- priors


def prior(sizes, kind):
    return lq.class_prior(np.repeat(np.arange(len(sizes)), sizes), kind).tolist()


def test_the_prior_is_uniform_or_as_given_or_what_the_sizes_suggest():
    assert prior([60, 40], "uniform") == [0.5, 0.5]
    assert prior([60, 40], "given") == [0.6, 0.4]
    assert prior([53, 47], "given") == [0.53, 0.47]
    assert prior([53, 47], "auto") == [0.5, 0.5]
    # .13 of the way from equal sizes to a single class
    assert prior([564, 436], "auto") == [0.5, 0.5]
    assert prior([566, 434], "auto") == [0.566, 0.434]
    assert prior([345, 205, 225, 225], "auto") == [0.25] * 4  # .127 of the way
    assert prior([355, 205, 220, 220], "auto") == [0.355, 0.205, 0.22, 0.22]  # .14 of the way


def test_probabilities_are_matched_to_the_prior_and_ranked_as_before():
    logits = np.random.default_rng(0).normal(size=(500, 3)) * 3 + [2, 0, -1]
    wanted = np.array([0.2, 0.3, 0.5])
    found = lq.match_prior(logits, wanted)
    assert found.mean(axis=0) == pytest.approx(wanted, abs=1e-6)
    assert found.sum(axis=1) == pytest.approx(np.ones(500))
    # one bias a class: the differences of log-odds are the same in every row
    shift = np.log(found) - logits
    shift -= shift[:, :1]
    assert shift == pytest.approx(np.tile(shift[0], (500, 1)))


def test_logits_that_match_already_stay_and_steps_are_limited():
    matched = lq.match_prior(np.zeros((4, 2)), np.array([0.5, 0.5]))
    assert matched.tolist() == [[0.5, 0.5]] * 4
    logits = np.array([[2.0, 0.0], [1.0, 0.0]])
    wanted = np.array([0.5, 0.5])
    assert lq.match_prior(logits, wanted, 0)[:, 0] == pytest.approx([0.8808, 0.7311], abs=1e-4)
    errors = [abs(lq.match_prior(logits, wanted, n)[:, 0].mean() - 0.5) for n in (0, 1, 2, 4, 8)]
    assert all(b < a for a, b in pairwise(errors))


# ---- rounds


def test_a_label_model_never_sees_the_fold_it_scores():
    labels = np.arange(60) % 2
    fold = lq.fold_numbers(labels, np.arange(60) // 2, 3, 0)
    seen = []

    def label_model(fit, held_out, targets):
        assert len(set(fold[held_out])) == 1
        assert not set(fold[fit]) & set(fold[held_out])
        assert sorted([*fit, *held_out]) == list(range(60))
        seen.append(targets.copy())
        return np.tile([0.5, 0.5], (len(held_out), 1))

    called = []
    found = lq.true_label_probabilities(
        [label_model, label_model],
        labels,
        np.array([0.5, 0.5]),
        fold,
        advance=lambda: called.append(1),
    )
    assert [p.shape for p in found] == [(60, 2)] * 2
    assert len(seen) == len(called) == 2 * 2 * 3
    assert seen[0] == pytest.approx(np.eye(2)[labels])
    assert seen[-1] == pytest.approx(np.full((60, 2), 0.5)), "the round before, not the labels"


def targets_of(labels, wanted, trusted=None, rounds=1, p=(0.7, 0.2, 0.1)):
    fold = np.arange(len(labels)) % 2
    seen = []

    def label_model(fit, held_out, targets):
        seen.append(targets.copy())
        return np.tile(p, (len(held_out), 1))

    lq.true_label_probabilities([label_model], labels, np.array(wanted), fold, trusted, rounds)
    return seen[-1]


def test_targets_are_weighted_to_the_prior():
    labels = np.repeat([0, 1, 2], [6, 3, 1])
    targets = targets_of(labels, [0.5, 0.25, 0.25])
    assert targets.sum(axis=0) == pytest.approx([5, 2.5, 2.5])
    assert targets[-1] == pytest.approx([0, 0, 2.5])


def test_a_class_without_documents_is_no_target():
    targets = targets_of(np.repeat([0, 1], 4), [0.4, 0.4, 0.2])
    assert np.isfinite(targets).all()
    assert (targets[:, 2] == 0).all()


def test_trusted_labels_stay_as_given_in_later_rounds():
    labels = np.repeat([0, 1, 2], 4)
    trusted = np.arange(12) == 5
    targets = targets_of(labels, [1 / 3] * 3, trusted, rounds=2)
    assert (targets[5] > 0).tolist() == [False, True, False]
    assert (np.delete(targets, 5, axis=0) > 0).all()


def test_the_models_are_fused_sharpened_and_matched_to_the_prior():
    labels, vectors = clusters()
    wanted = np.array([0.2, 0.3, 0.5])
    fold = np.arange(90) // 3 % 3
    models = label_models.embedding_label_models(vectors)
    (found,) = lq.true_label_probabilities(models, labels, wanted, fold, rounds=1)
    assert found.mean(axis=0) == pytest.approx(wanted, abs=1e-5)
    held = []
    targets = np.eye(3)[labels] * wanted * 3
    for label_model in models:
        p = np.empty((90, 3))
        for k in range(3):
            p[fold == k] = label_model(
                np.flatnonzero(fold != k), np.flatnonzero(fold == k), targets
            )
        held.append(np.log(p))
    assert found == pytest.approx(lq.match_prior(2 * lq.fuse(held), wanted))


def test_a_probability_of_0_or_over_1_is_no_infinity():
    labels = np.arange(8) % 2

    def label_model(fit, held_out, targets):
        return np.tile([1.0 + 1e-9, 0.0], (len(held_out), 1)) + np.eye(2)[held_out % 2] * 1e-3

    (found,) = lq.true_label_probabilities(
        [label_model], labels, np.array([0.5, 0.5]), np.arange(8) // 4, rounds=1
    )
    assert np.isfinite(found).all()


def test_sums_are_those_of_one_thread_on_any_machine():
    seen: list[int] = []

    def label_model(fit, held_out, targets):
        seen.extend(x["num_threads"] for x in threadpool_info() if x["user_api"] == "blas")
        return np.full((len(held_out), 2), 0.5)

    with threadpool_limits(2, user_api="blas"):
        lq.true_label_probabilities(
            [label_model], np.arange(8) % 2, np.array([0.5, 0.5]), np.arange(8) // 4, rounds=1
        )
    assert set(seen) == {1}


def test_rounds_are_averaged_geometrically_and_matched():
    wanted = np.array([0.5, 0.5])
    a, b = np.array([[0.9, 0.1], [0.1, 0.9]]), np.array([[0.6, 0.4], [0.4, 0.6]])
    found = lq.average_rounds([a, b], wanted)
    odds = np.sqrt(9 * 1.5)
    assert found[0] == pytest.approx([odds / (1 + odds), 1 / (1 + odds)], abs=1e-6)
    assert found[1] == pytest.approx(found[0][::-1])
    certain = lq.average_rounds([np.eye(2), a], wanted)
    odds = np.sqrt(9 * 1e6)
    assert certain[0, 0] == pytest.approx(odds / (1 + odds), rel=1e-6)


def test_models_are_brought_to_one_spread_before_they_are_averaged():
    rng = np.random.default_rng(0)
    flat, steep = rng.normal(size=(50, 3)), rng.normal(size=(50, 3))
    fused = lq.fuse([flat + rng.normal(size=(50, 1)), 10 * steep])
    flat -= flat.mean(axis=1, keepdims=True)
    steep -= steep.mean(axis=1, keepdims=True)
    assert fused == pytest.approx(1.5 * (flat / flat.std() + steep / steep.std()) / 2)
    assert fused.mean(axis=1) == pytest.approx(np.zeros(50))
    assert lq.fuse([np.ones((4, 2))]).tolist() == [[0, 0]] * 4, "what says nothing adds nothing"


# ---- the given labels


def simulated(matrix, n=20_000, seed=0):
    """Return calibrated probabilities, true labels, and labels given by a transition matrix."""
    rng = np.random.default_rng(seed)
    c = len(matrix)
    p = rng.dirichlet([0.15] * c, n)
    true = (p.cumsum(1) > rng.random((n, 1))).argmax(1)
    given = (np.cumsum(matrix, 1)[true] > rng.random((n, 1))).argmax(1)
    return p, true, given


MATRIX = np.array([[0.8, 0.15, 0.05], [0.0, 0.9, 0.1], [0.2, 0.0, 0.8]])


def test_the_posterior_is_bayes_rule_with_the_matrix_that_explains_the_labels():
    p, _, given = simulated(MATRIX)
    found = noise_rate.posterior(p, given)
    expected = p * MATRIX[:, given].T
    expected /= expected.sum(axis=1, keepdims=True)
    assert np.abs(found - expected).mean() < 0.01
    assert found.sum(axis=1) == pytest.approx(np.ones(len(p)))


def test_the_first_step_takes_four_labels_of_five_as_right():
    p = np.array([[0.5, 0.3, 0.2]])
    one = noise_rate.posterior(p, np.array([1]), 1)
    right, wrong = 0.8 + 0.2 / 3, 0.2 / 3
    weights = np.array([0.5 * wrong, 0.3 * right, 0.2 * wrong])
    assert one[0] == pytest.approx(weights / weights.sum())


def test_a_class_that_is_never_given_does_not_break_the_posterior():
    found = noise_rate.posterior(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 0]))
    assert np.isfinite(found).all()
    two = noise_rate.posterior(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 0]), 2)
    one = noise_rate.posterior(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 0]), 1)
    given = one.sum(axis=0) + np.array([0.0, 0.0])
    stay = (given + 1e-3) / (given + 2e-3)
    weights = np.array([0.9, 0.1]) * stay
    assert two[0] == pytest.approx(weights / weights.sum())


@pytest.mark.parametrize("seed", range(4))
def test_agreement_is_cohens_kappa(seed):
    rng = np.random.default_rng(seed)
    labels, p = rng.integers(0, 3, 80), rng.dirichlet([1, 1, 1, 1], 80)
    assert noise_rate.cohen_kappa(p, labels) == pytest.approx(
        cohen_kappa_score(labels, p.argmax(axis=1))
    )
    assert type(noise_rate.cohen_kappa(p, labels)) is float


def test_of_one_class_there_is_no_agreement_beyond_chance():
    assert noise_rate.cohen_kappa(np.array([[1.0, 0.0]] * 3), np.zeros(3, int)) == 0


def test_the_probabilities_of_an_error_have_the_rate_as_their_mean():
    quality = np.random.default_rng(0).beta(4, 1, 500)
    for rate in (0.001, 0.2, 0.9):
        wrong = noise_rate.error_probability(quality, rate)
        assert wrong.mean() == pytest.approx(rate, abs=1e-9)
        order = np.argsort(quality)
        assert (np.diff(wrong[order]) <= 0).all(), "the better the label the less likely wrong"
        # log-odds are halved, by the sharpness, and shifted
        shift = logit(wrong) - logit(1 - quality) / 2
        assert shift == pytest.approx(np.full(500, shift[0]), abs=1e-6)
    shift = logit(noise_rate.error_probability(quality, 0.2, sharpness=1)) - logit(1 - quality)
    assert shift == pytest.approx(np.full(500, shift[0]), abs=1e-6)


def test_certain_labels_have_finite_odds():
    wrong = noise_rate.error_probability(np.array([0.0, 1.0, 0.5]), 0.3)
    assert np.isfinite(logit(wrong)).all()
    assert wrong.mean() == pytest.approx(0.3)
    assert logit(wrong[0]) - logit(wrong[2]) == pytest.approx(logit(1 - 1e-6) / 2)
    assert logit(wrong[2]) - logit(wrong[1]) == pytest.approx(logit(1 - 1e-6) / 2)


def test_what_a_wrong_label_should_be_follows_the_posterior():
    posterior = np.array([[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [1.0, 0.0, 0.0]])
    found = noise_rate.calibrated(posterior, np.array([0, 1, 0]), np.array([0.2, 0.7, 0.5]))
    assert found[0] == pytest.approx([0.8, 0.2 * 3 / 4, 0.2 / 4])
    assert found[1] == pytest.approx([0.7 * 6 / 7, 0.3, 0.7 / 7])
    assert found[2] == pytest.approx([0.5, 0.25, 0.25]), "nothing is known of the others"
    assert found.sum(axis=1) == pytest.approx(np.ones(3))


def test_what_is_hardly_possible_keeps_its_proportions():
    posterior = np.array([[1 - 4e-9, 1e-9, 3e-9]])
    found = noise_rate.calibrated(posterior, np.array([0]), np.array([0.4]))
    assert found[0] == pytest.approx([0.6, 0.1, 0.3], rel=1e-3)


def test_a_transition_matrix_counts_true_classes_in_rows():
    found = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.25, 0.75]])
    matrix = noise_rate.transition_matrix(found, np.array([0, 1, 1, 0]))
    assert matrix == pytest.approx(np.array([[1.25, 0.5], [0.75, 1.5]]) / [[1.75], [2.25]])


def test_the_labels_of_lowest_quality_are_flagged_as_many_as_are_wrong():
    quality = np.array([0.9, 0.1, 0.5, 0.3, 0.5])
    assert noise_rate.flagged_labels(quality, np.array([0.1, 0.9, 0.3, 0.5, 0.1])).tolist() == [
        False, True, False, True, False
    ]  # fmt: skip
    assert noise_rate.flagged_labels(quality, np.array([0.5, 0.9, 0.3, 0.5, 0.4])).tolist() == [
        False, True, True, True, False
    ], "of equal ones the first"  # fmt: skip
    # a noise rate that sees no error hides no label that the models contradict
    assert (
        noise_rate.flagged_labels(quality, np.zeros(5), at_least=2).tolist()
        == noise_rate.flagged_labels(quality, np.array([0.5, 0.9, 0.3, 0.5, 0.0])).tolist()
    )
    assert not noise_rate.flagged_labels(quality, np.zeros(5), 0.9, at_least=2).any()
    assert not noise_rate.flagged_labels(quality, np.zeros(5)).any()
    ties = np.random.default_rng(0).integers(0, 3, 1000) / 10
    flagged = noise_rate.flagged_labels(ties, np.full(1000, 0.5))
    assert np.flatnonzero(flagged).tolist() == sorted(
        sorted(range(1000), key=lambda i: ties[i])[:500]
    )
    assert flagged.dtype == bool


def test_at_a_precision_the_longest_head_that_has_it_is_flagged():
    quality = np.arange(6) / 10
    wrong = np.array([0.9, 0.7, 0.8, 0.4, 0.2, 0.0])  # mean so far .9 .8 .8 .7 .6 .5
    for precision, count in ((0.95, 0), (0.9, 1), (0.8, 3), (0.7, 4), (0.55, 5), (0.5, 6)):
        assert noise_rate.flagged_labels(quality, wrong - 1e-12, precision - 1e-9).sum() == count
        flagged = noise_rate.flagged_labels(quality, wrong, precision - 1e-9)
        assert flagged.tolist() == [True] * count + [False] * (6 - count)
    # a first one that is too low does not end it
    assert noise_rate.flagged_labels(quality, wrong[[3, 0, 1, 2, 4, 5]], 0.69).sum() == 4
    assert noise_rate.flagged_labels(np.array([0.1]), np.array([0.5]), 0.5).tolist() == [True]


# ---- the noise rate


def labelled(rate, n=1500, c=4, heat=1.0, seed=0):
    """Return predictions ``heat`` times too sure, and labels of which ``rate`` are any other."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([0.1] * c, n)
    true = (p.cumsum(1) > rng.random((n, 1))).argmax(1)
    wrong = rng.random(n) < rate
    given = np.where(wrong, (true + rng.integers(1, c, n)) % c, true)
    return softmax(heat * np.log(np.clip(p, 1e-6, 1)), axis=1), given


ONCE = np.ones((1, 1500))


@pytest.mark.parametrize("heat", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("rate", [0.0, 0.05, 0.3])
def test_errors_to_any_class_are_told_from_those_of_the_model(rate, heat):
    p, given = labelled(rate, heat=heat)
    (found,) = noise_rate.symmetric_rate(p, given, ONCE)
    assert found == pytest.approx(rate, abs=0.005 if rate == 0 else 0.025)


def test_each_row_of_weights_is_a_sample_of_its_own():
    p, given = labelled(0.2)
    rng = np.random.default_rng(1)
    weights = rng.integers(0, 3, (3, 1500)).astype(float)
    found = noise_rate.symmetric_rate(p, given, weights)
    flows, _ = noise_rate.asymmetric_rate(p, given, weights)
    for row, rate, flow in zip(weights.astype(int), found, flows, strict=True):
        rows = np.repeat(np.arange(1500), row)
        assert noise_rate.symmetric_rate(p[rows], given[rows], np.ones((1, len(rows)))) == rate
        assert np.isfinite(flow)
    assert len(set(found)) > 1


def flowing(share, n=1500, seed=0):
    """Return sure predictions of two classes, and labels: a share of class 0 was taken for 1."""
    rng = np.random.default_rng(seed)
    true = np.arange(n) % 2
    p = np.where(np.eye(2)[true] == 1, 0.97, 0.03)
    given = np.where((true == 0) & (rng.random(n) < share), 1, true)
    return p, given


def test_errors_in_one_direction_are_found_and_those_in_both_are_the_models():
    for share in (0.1, 0.3):
        p, given = flowing(share)
        (found,), most = noise_rate.asymmetric_rate(p, given, ONCE)
        real = (given != np.arange(1500) % 2).mean()
        assert real <= found <= 2.2 * real, "half is taken to show, where shares moved"
        assert most >= found
    p, given = flowing(0.0)
    (none,), most = noise_rate.asymmetric_rate(p, given, ONCE)
    assert none == 0
    assert most == pytest.approx(0, abs=0.01)
    both = np.arange(1500) % 2
    both[:100] = 1 - both[:100]  # fifty each way
    assert noise_rate.asymmetric_rate(p, both, ONCE)[0] == 0


def test_certain_predictions_and_absent_classes_have_flows_too():
    true = np.arange(300) % 2
    given = np.where((true == 0) & (np.arange(300) % 10 == 0), 1, true)
    (two,), _ = noise_rate.asymmetric_rate(np.eye(2)[true], given, np.ones((1, 300)))
    (three,), _ = noise_rate.asymmetric_rate(
        np.eye(3)[true] + [0, 0, 1e-9], given, np.ones((1, 300))
    )
    assert 0.1 <= two <= 0.22
    assert three == pytest.approx(two, rel=0.05)


def test_eight_there_and_one_back_are_more_than_chance():
    true = np.arange(400) % 2
    given = true.copy()
    given[0:16:2] = 1
    given[1] = 0
    p = np.where(np.eye(2)[true] == 1, 0.97, 0.03)
    assert noise_rate.asymmetric_rate(p, given, np.ones((1, 400)))[0] > 0


def sure(true, classes):
    return np.where(np.eye(classes)[true] == 1, 0.97, 0.03 / (classes - 1))


def test_errors_round_a_circle_leave_the_shares_and_are_counted_exactly():
    true = np.arange(2000) % 4
    wrong = np.arange(2000) // 4 % 10 == 0
    given = np.where(wrong, (true + 1) % 4, true)
    (found,), most = noise_rate.asymmetric_rate(sure(true, 4), given, np.ones((1, 2000)))
    assert found == pytest.approx(0.1)
    assert most >= found


def test_of_errors_that_move_the_shares_half_is_taken_to_show():
    true, wrong = np.arange(900) % 3, np.zeros(900, int)
    for k, number in enumerate((60, 30, 30)):  # to the next class; so class 1 grows by 30
        wrong[np.flatnonzero(true == k)[:number]] = 1
    (found,), _ = noise_rate.asymmetric_rate(sure(true, 3), (true + wrong) % 3, np.ones((1, 900)))
    shown, moved = 120 / 900, 30 / 900
    assert found == pytest.approx((shown - moved) / (1 - moved) + 2 * moved)


def test_a_single_sure_contradiction_is_as_wrong_as_may_be():
    assert (
        noise_rate.symmetric_rate(sure(np.array([0]), 2), np.array([1]), np.ones((1, 1)))
        == noise_rate.RATES.max()
    )


def test_where_a_resample_has_the_flow_turned_none_is_counted():
    true = np.arange(400) % 2
    there, back = np.flatnonzero(true == 0)[:40], np.flatnonzero(true == 1)[:5]
    for k in (0, 1):  # in either direction
        given = true.copy()
        given[there], given[back] = 1, 0
        given = given if k == 0 else 1 - given
        weights = np.ones((2, 400))
        weights[1, there] = 0
        rates, _ = noise_rate.asymmetric_rate(sure(true if k == 0 else 1 - true, 2), given, weights)
        assert rates[0] > 0.1
        assert rates[1] == 0


@pytest.mark.parametrize(("there", "back"), [(12, 7), (9, 9), (10, 4)])
def test_what_is_not_more_than_chance_still_says_how_much_there_may_be(there, back):
    true = np.arange(400) % 2
    given = true.copy()
    given[np.flatnonzero(true == 0)[:there]] = 1
    given[np.flatnonzero(true == 1)[:back]] = 0
    (rate,), most = noise_rate.asymmetric_rate(sure(true, 2), given, np.ones((1, 400)))
    assert rate == 0
    errors = there + back
    heads = np.arange(errors + 1)
    chance = binom.pmf(heads, errors, 0.5)
    mean = (np.abs(2 * heads - errors) * chance).sum()
    deviation = np.sqrt(((2 * heads - errors) ** 2 * chance).sum() - mean**2)
    excess = abs(there - back) - mean + 1.645 * deviation
    agreed = 1 - errors / 400
    assert most == pytest.approx(excess / (400 * agreed + excess))


def test_a_direction_must_be_more_than_chance():
    p = np.where(np.eye(2)[np.arange(400) % 2] == 1, 0.97, 0.03)
    for errors, seen in ((4, False), (5, False), (6, True), (12, True)):
        given = np.arange(400) % 2
        given[: 2 * errors : 2] = 1
        (found,), _ = noise_rate.asymmetric_rate(p, given, np.ones((1, 400)))
        assert (found > 0) == seen, errors


@pytest.mark.parametrize("classes", [2, 4, 14])
@pytest.mark.parametrize("heat", [1.0, 2.0])
def test_correct_labels_have_next_to_no_noise(classes, heat):
    p, given = labelled(0.0, 400, classes, heat)
    found = noise_rate.noise_rate([p, p], given, 20)
    assert found.estimate <= 0.01
    assert 0 <= found.lower <= found.estimate <= found.upper


def test_the_interval_holds_the_rate_and_narrows_with_more_documents():
    widths = []
    for n in (200, 1000):
        p, given = labelled(0.15, n)
        found = noise_rate.noise_rate([p, p], given, 20)
        assert found.lower <= 0.15 <= found.upper
        widths.append(found.upper - found.lower)
        ones = np.ones((1, n))
        (symmetric_rate,), ((flow,), _) = (
            noise_rate.symmetric_rate(p, given, ones),
            noise_rate.asymmetric_rate(p, given, ones),
        )
        assert found.estimate == max(symmetric_rate, flow), "that of the documents as they are"
    assert widths[1] < widths[0] / 1.5
    assert found == noise_rate.noise_rate([p, p], given, 20), "the same each time"


def test_the_first_round_is_taken_as_far_as_the_last_leaves_it_possible():
    noisy, given = labelled(0.2, 600)
    clean = np.where(np.eye(4)[given] == 1, 0.97, 0.01)
    high, low = (noise_rate.noise_rate([p, p], given, 10) for p in (noisy, clean))
    assert low.estimate < 0.01 < 0.15 < high.estimate
    assert noise_rate.noise_rate([clean, noisy], given, 10).estimate == low.estimate
    mixed = noise_rate.noise_rate([noisy, clean], given, 10)
    assert noise_rate.noise_rate([noisy, noisy, clean], given, 10) == mixed, (
        "those between do not count"
    )
    assert mixed.estimate < 0.01, "no more than the last leaves"
    assert mixed.lower == low.lower
    assert mixed.upper == pytest.approx(high.upper)


def test_noise_rates_stay_what_they_were():
    """The known values are those that benchmarks measured against labels of people."""
    rng = np.random.default_rng(5)
    p, given = labelled(0.1, 700, 3, 1.5, seed=4)
    given = np.where((given == 0) & (rng.random(700) < 0.15), 1, given)
    other = softmax(np.log(np.clip(p, 1e-6, 1)) + rng.normal(0, 0.5, p.shape), axis=1)
    assert noise_rate.noise_rate([p, other], given, 50) == pytest.approx(RATES_FOUND, abs=1e-6)
    weights = np.stack([np.ones(700), rng.poisson(1, 700)])
    shares, most = noise_rate.asymmetric_rate(p, given, weights)
    assert shares == pytest.approx(FLOWS)
    assert most == pytest.approx(MOST)
    assert noise_rate.symmetric_rate(p, given, weights) == pytest.approx(ANYWHERE)


RATES_FOUND: Any = [0.151875, 0.12, 0.196992188]
FLOWS: Any = [0.0942857143, 0.0921658986]
MOST: Any = 0.0942857143
ANYWHERE: Any = [0.151875, 0.1875]


def test_a_class_with_fewer_groups_than_folds_is_told_by_its_groups_not_its_documents():
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 2])
    groups = np.array(["a", "b", "c", "d", "d", "d", "e", "f"])
    for folds, expected in ((1, [0, 1, 2]), (2, [0, 1]), (3, [0]), (4, [])):
        enough = lq.enough_groups(labels, groups, folds)
        assert enough.dtype == bool
        assert sorted(set(labels[enough])) == expected
        assert (enough == np.isin(labels, expected)).all()
