"""tools.record: what is printed is kept, with the command that repeats it, and rendered from there."""

import argparse
import sys

import pytest

from cleantune import files
from tools import record, results


def test_tables_and_remarks_are_kept_as_printed_and_rendered(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys, "orig_argv", ["/bin/python3", "-m", "studies.x", "--keep", "x", "--n=2 3"]
    )
    kept = record.Record("x")
    kept.table("Accuracy", ("model", "documents"), [("a|b", 1200), ("c", "–")])
    kept.say("no difference")
    file = files.read_json(record.RESULTS / "x.json")
    assert file["command"] == "python -m studies.x '--n=2 3'"
    assert file["tables"] == [{"caption": "Accuracy", "columns": ["model", "documents"],
                               "rows": [["a|b", "1,200"], ["c", "–"]]}]  # fmt: skip
    printed = capsys.readouterr().out
    page = results.rendered("<!-- results: x -->\n<!-- end of results -->")
    assert r"| a\|b | 1,200 |" in page and "| c | – |" in page
    for words in ("1,200", "no difference"):
        assert words in printed and words in page


def test_nothing_is_written_without_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record.Record(None).say("said")
    assert list(tmp_path.iterdir()) == []


def test_a_name_is_one_that_a_page_can_mark(capsys):
    parser = argparse.ArgumentParser()
    record.add_option(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--keep", "../x"])
    assert "'../x' is not lower-case letters" in capsys.readouterr().err
