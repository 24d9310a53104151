"""Macro-F1 and accuracy on one's own corpora beside TF-IDF, from the experiments of this repository.

    python -m studies.corpora reviews tickets        (after `dvc exp run -S dataset=reviews`, and so on)

Of each entry of ``datasets`` the newest experiment on the commit at hand counts. Nothing is run.
"""

import argparse
import json
from typing import Any

from cleantune import console
from cleantune.errors import UserError
from tools import record
from tools.commands import DVC, command


def main() -> None:
    """Print a row for each corpus."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("corpora", nargs="+", metavar="NAME", help="entries of `datasets`")
    record.add_option(parser)
    options = parser.parse_args()
    kept = record.Record(options.keep)
    revisions = newest_experiments()
    if missing := [name for name in options.corpora if name not in revisions]:
        raise UserError(
            f"no experiment on {', '.join(missing)}. Run `dvc exp run -S dataset={missing[0]}`."
        )
    rows = []
    for name in options.corpora:
        own, baselines, classes = (
            metrics(revisions[name], file) for file in ("test", "baselines", "classes")
        )
        both = [
            f"{own[score]:.3f} / {baselines['tfidf'][score]:.3f}"
            for score in ("macro_f1", "accuracy")
        ]
        count = sum(not row.startswith("(") for row in classes)  # without "(macro)" and such
        rows.append((name, own["n"], count, *both))
    columns = ("corpus", "test set", "classes", "macro-F1 / TF-IDF", "accuracy / TF-IDF")
    kept.table("fine-tuned model beside TF-IDF with logistic regression", columns, rows)


def newest_experiments() -> dict[str, str]:
    """Return the commit of the newest experiment on each dataset, by its name."""
    shown = json.loads(command(*DVC, "exp", "show", "--json"))
    found: dict[str, tuple[str, str]] = {}
    for commit in shown:
        for experiment in commit.get("experiments") or []:
            for state in experiment["revs"]:
                data = state["data"]
                params = (data or {}).get("params", {}).get("params.yaml", {}).get("data")
                if params and data["timestamp"] and state["rev"] != "workspace":  # queued: no time
                    found[params["dataset"]] = max(
                        found.get(params["dataset"], ("", "")), (data["timestamp"], state["rev"])
                    )
    return {name: revision for name, (_, revision) in found.items()}


def metrics(revision: str, name: str) -> dict[str, Any]:
    """Return the metrics of a commit."""
    content: dict[str, Any] = json.loads(command("git", "show", f"{revision}:metrics/{name}.json"))
    return content


if __name__ == "__main__":
    console.run(main)
