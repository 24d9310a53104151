"""Keep the metrics of a run as a results file, and render the tables of README and docs from these files.

    python -m tools.results keep sample --command "dvc repro"   # metrics/ into docs/results/sample.json
    python -m tools.results render                              # docs/results/*.json into README and docs
    python -m tools.results note                                # what `git status` shows after `dvc repro`

metrics/ belongs to whoever runs the pipeline: another processor rounds differently, so `dvc repro` rewrites
it there. README shows what is kept here, which no stage touches. Studies and benchmarks keep theirs with --keep NAME.
"""

import argparse
import json
import re
import subprocess
from pathlib import Path
from typing import Any

from cleantune import console, files, machine
from cleantune.data import tables
from tools.record import RESULTS, as_markdown

README = Path("README.md")
METRICS = Path("metrics")
INPUTS = ("params.yaml", "dvc.yaml", "ds_config.json", "requirements.lock", "cleantune", "stages",
          "data")  # fmt: skip
BASELINES = {
    "tfidf": "TF-IDF n-grams, logistic regression",
    "lstm": "LSTM",
    "ngram": "Kneser-Ney n-gram model",
    "rnn": "RNN",
}


def keep(name: str, command: str) -> None:
    """Write ``docs/results/<name>.json`` from what the last `dvc repro` left in metrics/."""
    test, intervals, baselines = (
        files.read_json(METRICS / f"{file}.json") for file in ("test", "intervals", "baselines")
    )
    result = {
        "corpus": name,
        "command": command,
        "processor": machine.processor(),
        "base_model": files.read_json(tables.FINETUNED / "summary.json")["base_model"],
        "label_action": files.read_json(tables.LABELS / "summary.json")["action"],
        "test_documents": test["n"],
        "accuracy": test["accuracy"],
        "accuracy_interval": intervals["accuracy"],
        "macro_f1": test["macro_f1"],
        "macro_f1_interval": intervals["macro_f1"],
        "baselines": {
            key: {
                "accuracy": row["accuracy"],
                "macro_f1": row["macro_f1"],
                "mcnemar_p": row["mcnemar_p"],
            }
            for key, row in baselines.items()
        },
    }
    files.write_json(RESULTS / f"{name}.json", result)
    console.outputs(RESULTS / f"{name}.json")


def rendered(page: str) -> str:
    """Return a page's text with each marked table made again from its results file."""

    def table(match: re.Match[str]) -> str:
        kept = json.loads((RESULTS / f"{match[2]}.json").read_text(encoding="utf-8"))
        lines = as_markdown(kept) if "tables" in kept else as_table(kept)
        return f"{match[1]}\n" + "\n".join(lines) + f"\n{match[3]}"

    return re.sub(
        r"(<!-- results: (\w+) -->)\n.*?(<!-- end of results -->)", table, page, flags=re.DOTALL
    )


def as_table(result: dict[str, Any]) -> list[str]:
    """Return a results file as the lines of a Markdown table, the best model first."""
    own = f"fine-tuned {result['base_model']}, `label_noise.action: {result['label_action']}`"
    rows = [(own, *(_with_interval(result, name) for name in ("macro_f1", "accuracy")))]
    for key in sorted(result["baselines"], key=lambda k: -result["baselines"][k]["macro_f1"]):
        row = result["baselines"][key]
        rows.append(
            (BASELINES[key], f"{100 * row['macro_f1']:.1f} %", f"{100 * row['accuracy']:.1f} %")
        )
    head = f"{result['corpus']}, {result['test_documents']:,} test documents"
    return [
        f"| {head} | macro-F1 (95 % interval) | accuracy (95 % interval) |",
        "| --- | --- | --- |",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        f"`{result['command']}` on an {result['processor']}.",
    ]


def _with_interval(result: dict[str, Any], name: str) -> str:
    """Return a metric of the model in bold, and its interval where it has one."""
    ends = result[f"{name}_interval"]
    interval = f" ({100 * ends[0]:.1f} to {100 * ends[1]:.1f})" if ends else ""
    return f"**{100 * result[name]:.1f} %**{interval}"


def note() -> None:
    """Say why files in git have changed, where `dvc repro` changed them and nobody's edit did."""

    def changed(*paths: str) -> list[str]:
        command = ["git", "status", "--porcelain", "--", *paths]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.stdout.splitlines() if done.returncode == 0 else []

    if changed(*INPUTS) or not (results := changed("dvc.lock", "metrics")):
        return
    made_on = files.read_json(RESULTS / "sample.json")["processor"]
    console.say(
        f"note: {len(results)} files that git tracks (dvc.lock, metrics/) now hold the results of this processor "
        f"({machine.processor()}); those in git were made on {made_on}. Processors round differently, so the last digits "
        "differ: nothing is wrong with this clone. Commit them, and `dvc metrics diff` compares with them; or drop "
        "them: git restore dvc.lock metrics"
    )


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tools.results", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    actions = parser.add_subparsers(dest="action", required=True)
    of_keep = actions.add_parser("keep", help="metrics/ into docs/results/NAME.json")
    of_keep.add_argument("name")
    of_keep.add_argument("--command", required=True, help="the command that the metrics are of")
    actions.add_parser("render", help="docs/results/*.json into README.md and docs/results/*.md")
    actions.add_parser("note", help="say why `git status` shows changes after `dvc repro`")
    arguments = parser.parse_args()
    if arguments.action == "keep":
        keep(arguments.name, arguments.command)
    elif arguments.action == "render":
        for page in (README, *sorted(RESULTS.glob("*.md"))):
            files.write_text(page, rendered(page.read_text(encoding="utf-8")))
    else:
        note()


if __name__ == "__main__":
    console.run(main)
