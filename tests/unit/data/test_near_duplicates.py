"""Near-duplicates: words, shingles and their similarity, the search, the groups and the copies."""

import unicodedata
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
from datasketch import MinHash, MinHashLSH
from hypothesis import given, settings
from hypothesis import strategies as st

from cleantune.data import near_duplicates
from cleantune.data.near_duplicates import Shingles, Similar, same_text
from cleantune.data.words import words

# ---- words


def test_words_of_every_script_count_and_case_does_not():
    assert words("Don't STOP_it") == ["don", "t", "stop", "it"]
    assert words("STRASSE") == words("straße")
    assert words("कि") != words("की")
    assert words("漢字") == ["漢", "字"]
    assert words("ok 😀") != words("ok 😡")
    assert words("e\u0301a") == [unicodedata.normalize("NFD", "é") + "a"]


def test_a_text_without_words_is_what_stands_between_its_blanks():
    assert words(":) :(") == [":)", ":("]
    assert words("  ") == []


# ---- shingles


def test_hashes_are_scrambled_as_by_splitmix64():
    """The first outputs of java.util.SplittableRandom's generator for the seed 0."""
    gamma = 0x9E3779B97F4A7C15
    states = np.array([(k * gamma) % 2**64 for k in range(3)], np.uint64)
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert near_duplicates._mix(states).tolist() == expected


def test_shingles_are_one_sorted_set_a_text():
    shingles = Shingles(["a b c a b c", "", "a b c", "x y", "z"])
    sets = [shingle.tolist() for shingle in shingles]
    assert [len(s) for s in sets] == [3, 0, 1, 1, 1]  # abc, bca, cab; abc again counts once
    assert all(a < b for s in sets for a, b in pairwise(s))
    assert sets[2][0] in sets[0]
    assert len(shingles) == 5
    assert np.array_equal(shingles[0], np.array(sets[0], np.uint64))
    assert len({h for s in sets for h in s}) == 5


def test_shingles_know_the_order_and_the_number_of_words():
    texts = ["a b c", "c b a", "a b", "a", "a b c d", "b c d", "a a a", "a a", "b a"]
    shingles = Shingles(texts)
    alike = {(i, j): shingles.jaccard(i, j) for i, j in combinations(range(len(texts)), 2)}
    assert {pair: s for pair, s in alike.items() if s} == {(0, 4): 0.5, (4, 5): 0.5}
    assert [shingles.jaccard(i, i) for i in range(len(texts))] == [1] * len(texts)


def test_nothing_is_similar_to_a_text_without_shingles():
    shingles = Shingles(["", "a b c", "", "!"])
    assert shingles.jaccard(0, 1) == shingles.jaccard(0, 2) == 0
    assert shingles.jaccard(1, 3) == 0
    assert len(Shingles([])) == 0


def brute_force(texts: list[str]) -> dict[tuple[int, int], float]:
    sets = []
    for text in texts:
        found = words(text)
        sets.append({tuple(found[i : i + 3]) for i in range(max(1, len(found) - 2))} - {()})
    return {
        (i, j): len(sets[i] & sets[j]) / len(sets[i] | sets[j])
        for i, j in combinations(range(len(texts)), 2)
        if sets[i] | sets[j]
    }


@given(
    st.lists(st.lists(st.sampled_from("abcd"), max_size=8).map(" ".join), min_size=2, max_size=6)
)
@settings(deadline=None, max_examples=50, derandomize=True)
def test_the_similarity_is_the_jaccard_index_of_word_triples(texts):
    shingles = Shingles(texts)
    for (i, j), similarity in brute_force(texts).items():
        assert shingles.jaccard(i, j) == pytest.approx(similarity)


# ---- the search


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.7, 0.8, 0.9, 0.99, 1.0])
def test_at_the_threshold_one_pair_in_two_hundred_is_missed_and_no_more_work_is_done(threshold):
    bands, rows = near_duplicates.bands(threshold)

    def missed(rows):
        return (1 - threshold**rows) ** (near_duplicates.PERMUTATIONS // rows)

    assert bands == near_duplicates.PERMUTATIONS // rows
    assert missed(rows) <= 0.005
    # longer bands, fewer candidates: no longer one would do, up to two bands
    assert all(missed(r) > 0.005 for r in range(rows + 1, near_duplicates.PERMUTATIONS // 2 + 1))


def test_the_number_of_bands_that_follows():
    assert near_duplicates.bands(0.8) == (21, 6)
    assert near_duplicates.bands(1.0) == (2, 64)
    assert near_duplicates.bands(0.001) == (128, 1), "as many as there are, where none are enough"


def test_signatures_are_those_of_datasketch(edited):
    shingles = Shingles(["", "one", *edited[:20]])
    found = near_duplicates.signatures(shingles)
    assert found.shape == (22, near_duplicates.PERMUTATIONS)
    for own, signature in zip(shingles, found, strict=True):
        theirs = MinHash(near_duplicates.PERMUTATIONS, hashfunc=int)
        theirs.update_batch((own & np.uint64(0xFFFFFFFF)).tolist())
        assert np.array_equal(theirs.hashvalues, signature)


@pytest.mark.parametrize("threshold", [0.3, 0.8])
def test_proposed_are_those_that_datasketch_proposes(edited, threshold):
    shingles = Shingles(edited)
    index = MinHashLSH(
        num_perm=near_duplicates.PERMUTATIONS, params=near_duplicates.bands(threshold)
    )
    sketches = [
        MinHash(hashvalues=s, scheme="affine32") for s in near_duplicates.signatures(shingles)
    ]
    for i, sketch in enumerate(sketches):
        index.insert(i, sketch)
    keys = near_duplicates.band_keys(shingles, threshold)
    for i, sketch in enumerate(sketches):
        assert np.flatnonzero((keys == keys[i]).any(axis=1)).tolist() == sorted(index.query(sketch))


def test_shingles_of_parts_are_those_of_the_whole(edited):
    parts = [Shingles(edited[:7]), Shingles([]), Shingles(edited[7:30])]
    whole, joined = Shingles(edited[:30]), Shingles.joined(parts)
    assert np.array_equal(joined.hashes, whole.hashes)
    assert np.array_equal(joined.ends, whole.ends)


@pytest.fixture(scope="module")
def edited() -> list[str]:
    """Texts of thirty words, then each again with one to four words changed."""
    rng = np.random.default_rng(1)
    originals = [[f"w{rng.integers(2000)}" for _ in range(30)] for _ in range(150)]
    copies = []
    for i, original in enumerate(originals):
        copy = list(original)
        for place in rng.choice(30, 1 + i % 4, replace=False):
            copy[place] = "changed"
        copies.append(copy)
    return [" ".join(found) for found in originals + copies]


@pytest.mark.parametrize("threshold", [0.5, 0.8, 1.0])
def test_nearly_all_near_duplicates_are_found_and_nothing_else(edited, threshold):
    half = len(edited) // 2
    shingles = Shingles(edited)
    true = {(i, half + i): shingles.jaccard(i, half + i) for i in range(half)}
    true = {pair: s for pair, s in true.items() if s >= threshold}
    similar = Similar(shingles, threshold)
    found = {(j, i): s for i, (j, s) in similar.nearest(range(half, 2 * half), range(half)).items()}
    assert found.items() <= true.items()
    assert len(found) >= 0.98 * len(true)
    groups = similar.groups(range(len(edited)))
    assert {(first, i) for i, first in groups.items() if i != first} <= set(true)
    assert len(set(groups.values())) <= len(edited) - 0.98 * len(true)


def test_the_other_texts_do_not_decide_a_texts_shingles(edited):
    # else which pairs at the threshold are missed would change with every new document
    together = Shingles(["words of others", *edited[:20]])
    for i, text in enumerate(edited[:20], 1):
        assert np.array_equal(together[i], Shingles([text])[0])


LINE = [
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
]  # eight shingles


def changed(*places: int) -> str:
    return " ".join("new" + word if i in places else word for i, word in enumerate(LINE))


def test_the_nearest_of_several_is_found_and_of_equal_ones_the_first():
    texts = [changed(9, 8), changed(9), " ".join(LINE), changed(0), changed(9)]
    similar = Similar(Shingles(texts), 0.3)
    assert similar.nearest([2], [0, 1, 3]) == {2: (1, 7 / 9)}
    assert similar.nearest([2], [3, 1, 0]) == {2: (1, 7 / 9)}
    assert similar.nearest([2], [0, 3]) == {2: (3, 7 / 9)}
    assert similar.nearest([2, 4], [1]) == {2: (1, 7 / 9), 4: (1, 1.0)}
    assert similar.nearest([2], []) == {}
    assert similar.nearest([], [2]) == {}


def test_a_similarity_right_at_the_threshold_is_enough():
    texts = ["a b c d", "b c d e", "v w x y", "z y x w"]  # one of three shingles in common
    assert Similar(Shingles(texts), 1 / 3).nearest([1], [0]) == {1: (0, 1 / 3)}
    assert Similar(Shingles(texts), 1 / 3).groups([0, 1, 2, 3]) == {0: 0, 1: 0, 2: 2, 3: 3}
    assert Similar(Shingles(texts), 0.34).nearest([1], [0]) == {}
    assert Similar(Shingles(texts), 0.34).groups([0, 1]) == {0: 0, 1: 1}


def test_a_chain_is_one_group_named_by_its_first_member():
    texts = [changed(9), changed(9, 0), "a b c d e f", changed(0), " ".join(LINE), changed(5)]
    similar = Similar(Shingles(texts), 0.7)
    assert similar.nearest([3], [0]) == {}  # alike only through others
    assert similar.groups([0, 1, 2, 3, 4]) == {0: 0, 1: 0, 2: 2, 3: 0, 4: 0}
    assert similar.groups([3, 0]) == {3: 3, 0: 0}
    assert similar.groups([4, 3, 1, 0]) == {4: 0, 3: 0, 1: 0, 0: 0}, "in whichever order they come"
    assert similar.groups([]) == {}


def test_groups_that_meet_late_become_one():
    near = [changed(9), changed(0), changed(9), changed(0), " ".join(LINE)]
    similar = Similar(Shingles(near), 0.7)
    assert similar.groups(range(4)) == {0: 0, 1: 1, 2: 0, 3: 1}
    assert similar.groups(range(5)) == dict.fromkeys(range(5), 0)


def test_what_takes_long_says_what_it_does(capsys):
    similar = Similar(Shingles(["a b c", "a b c"]), 0.8)
    similar.nearest([1], [0])
    similar.groups([0, 1])
    printed = capsys.readouterr().out.splitlines()
    assert [line.partition(" in ")[0] for line in printed] == [
        "comparing train with test: 1 of 1",
        "grouping near-duplicates: 2 of 2",
    ]


# ---- copies


def drop_copies(texts: list[str], *arguments: Any) -> Any:
    return near_duplicates.drop_copies(np.array([same_text(t) for t in texts]), *arguments)


def test_one_copy_stays_where_the_labels_agree_or_a_majority_or_a_person_decides():
    texts = ["A b", "a B", "c", "c", "c", "d", "d", "e", "e", "f"]
    labels = [0, 0, 1, 0, 0, 0, 1, 0, 1, 1]
    certain = [i == 8 for i in range(10)]
    dropped, conflicts = drop_copies(texts, labels, certain, range(10))
    assert dropped == {
        1: ("duplicate", 0),
        2: ("other_label", 3),
        4: ("duplicate", 3),
        5: ("conflicting_labels", 5),
        6: ("conflicting_labels", 5),
        7: ("other_label", 8),
    }
    assert conflicts == [[2, 3, 4], [5, 6], [7, 8]]


def test_only_the_members_are_looked_at():
    dropped, conflicts = drop_copies(["a"] * 4, [0, 1, 1, 1], [False] * 4, [0, 2, 3])
    assert dropped == {0: ("other_label", 2), 3: ("duplicate", 2)}
    assert conflicts == [[0, 2, 3]]


def test_certain_labels_outvote_the_others_and_the_one_kept_is_certain():
    dropped, _ = drop_copies(["a"] * 4, [0, 0, 0, 1], [False, False, True, True], range(4))
    assert {reason for reason, _ in dropped.values()} == {"conflicting_labels"}
    dropped, _ = drop_copies(["a"] * 4, [0, 0, 0, 0], [False, False, True, False], range(4))
    assert dropped == dict.fromkeys((0, 1, 3), ("duplicate", 2))


def test_of_three_labels_the_most_frequent_is_right_unless_two_are():
    dropped, _ = drop_copies(["a"] * 4, [0, 1, 2, 2], [False] * 4, range(4))
    assert dropped == {0: ("other_label", 2), 1: ("other_label", 2), 3: ("duplicate", 2)}
    dropped, _ = drop_copies(["a"] * 5, [0, 1, 1, 2, 2], [False] * 5, range(5))
    assert dropped == dict.fromkeys(range(5), ("conflicting_labels", 0))


def test_case_is_no_difference_in_any_alphabet():
    assert drop_copies(["Straße", "STRASSE"], [0, 0], [False] * 2, range(2))[0] == {
        1: ("duplicate", 0)
    }
    assert drop_copies(["a", "b"], [0, 0], [False] * 2, range(2)) == ({}, [])
