"""What the review page embeds: it fits, the lowest label quality comes first, and what is left out is said."""

import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cleantune.labels import corrections
from cleantune.labels.review_page import page
from cleantune.labels.review_page.content import FlaggedLabels

EMPTY = pd.DataFrame({"id": [], "new_label": pd.Series([], dtype="int64")})


def documents(count: int, characters: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": [f"train-{i:016x}" for i in range(count)],
            "title": "",
            "text": [f"{i} ".ljust(characters, "ü") for i in range(count)],
            "label": np.arange(count) % 77,
            "metadata.source": [["web", None][i % 2] for i in range(count)],
        }
    )


def written(table: pd.DataFrame, count: int, unchecked: tuple[str, ...] = ()) -> dict[str, Any]:
    """Write the page of the first ``count`` documents, of 77 classes; return what it embeds."""
    rng = np.random.default_rng(0)
    at = np.arange(count)
    flagged = FlaggedLabels(
        rows=at,
        suggested=(table["label"].to_numpy()[:count] + 1) % 77,
        quality=at / count,
        probabilities=rng.dirichlet(np.ones(77), count),
        neighbours=rng.integers(0, len(table), (count, 5)),
        similarity=np.full((count, 5), 0.5),
    )
    names = [f"class {i}" for i in range(77)]
    page.write_page(page.PAGE, "bank", names, table, table, flagged, EMPTY, unchecked)
    found = re.search(r'id="data">(.*?)</script>', page.PAGE.read_text(encoding="utf-8"), re.S)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("flagged", "characters"), [(300, 4_000), (2_000, 9_000), (9_000, 50)])
def test_the_page_of_ten_thousand_documents_stays_under_three_megabytes(flagged, characters):
    table = documents(10_000, characters)
    data = written(table, flagged)
    assert page.PAGE.stat().st_size <= 3_000_000
    shown = len(data["flagged"])
    assert [s["id"] for s in data["flagged"]] == table["id"].tolist()[:shown]
    notes = " ".join(data["notes"])
    assert (f"the first {shown:,} of {flagged:,} flagged labels" in notes) == (shown < flagged)
    assert page.PAGE.stat().st_size > 2_700_000 or shown == flagged  # no more left out than needed
    longest = max(len(document["text"]) for document in data["documents"])
    assert longest in {characters, *(characters_ for characters_, _ in page.LIMITS)}
    assert (f"cut after {longest:,} characters" in notes) == (longest < characters)


def test_probabilities_are_those_of_the_likeliest_classes_the_given_and_the_suggested():
    data = written(documents(50, 30), 40)
    for entry in data["flagged"]:
        labels = [label for label, _ in entry["p"]]
        shares = [share for _, share in entry["p"]]
        assert shares == sorted(shares, reverse=True)
        assert {entry["given"], entry["suggested"]} <= set(labels)
        assert set(labels[10:]) <= {entry["given"], entry["suggested"]}


def test_metadata_of_flagged_documents_and_classes_unchecked_are_on_the_page():
    data = written(documents(50, 30), 2, ("class 3", "class 5"))
    assert data["metadata"] == ["source"]
    assert [s["metadata"] for s in data["flagged"]] == [["web"], [""]]
    assert "class 3, class 5." in data["notes"][-1]


def test_the_columns_of_an_export_are_those_of_the_corrections():
    script = (page.TEMPLATES / "page.js").read_text(encoding="utf-8")
    assert f'"{",".join(corrections.COLUMNS)}"' in script
