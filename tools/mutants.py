"""Mutation testing: change the code in one spot after another, and see that a unit test fails.

    python -m tools.mutants                 (or make mutants)
    python -m tools.mutants batches         (or make mutants MODULE=batches)

mutmut makes the changes, in a copy of the project in mutants/, and runs the tests of tests/unit and
tests/unit_torch that reach the changed function; ``[tool.mutmut]`` in pyproject.toml names the
modules. Changes that no test sees are listed in tests/mutants.toml with the reason why they do no
harm. Prints a table; fails where a change survives that is not listed, where one is listed
that does not survive, and where fewer than 85 % of a module's changes are seen.

Not changed: module constants, default values that are expressions, and decorated functions.
"""

import argparse
import json
import os
import shutil
import subprocess
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from mutmut.utils.format_utils import orig_function_and_class_names_from_key

from cleantune import console
from cleantune.errors import UserError
from tools import record

MUTANTS = Path("mutants")
LISTED = Path("tests/mutants.toml")
LOG = MUTANTS / "run.log"
ENOUGH = 0.85

Change = tuple[str, str, str]
"""The changed function, its lines as they were, and as they are in the mutant."""


def main() -> None:
    """Run mutmut on one module or on all, and compare what survives with the list."""
    named = read(Path(__file__).parents[1] / "pyproject.toml")["tool"]["mutmut"]["only_mutate"]
    paths = {Path(path).stem: Path(path) for path in named}
    parser = argparse.ArgumentParser(prog="python -m tools.mutants", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("module", nargs="?", choices=sorted(paths), metavar="MODULE",
                        help=f"one of {', '.join(sorted(paths))}; all when left out")  # fmt: skip
    parser.add_argument("--workers", type=int, default=2, help="mutants tested at a time (2)")
    parser.add_argument("--last", action="store_true", help="report on the last run, run nothing")
    record.add_option(parser)
    given = parser.parse_args()
    kept = record.Record(given.keep)
    modules = [given.module] if given.module else sorted(paths)
    listed = read(LISTED)
    if not given.last:
        shutil.rmtree(MUTANTS, ignore_errors=True)
        MUTANTS.mkdir()
    faults = []
    rows: list[tuple[object, ...]] = []
    for module in modules:
        start = time.monotonic()
        if not given.last:
            run(paths[module], given.workers)
        faults += report(paths[module], listed.get(module, []), time.monotonic() - start, rows)
    kept.table("Mutants", ("module", "mutants", "killed", "survived", "share", "seconds"), rows)
    if faults:
        print("\n".join(["", *faults]))
        raise UserError(f"{len(faults)} of these survivors or modules are not as they should be.")


def read(path: Path) -> dict[str, Any]:
    """Read a TOML file."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


def run(path: Path, workers: int) -> None:
    """Test the mutants of a module; those of all modules are made the first time."""
    pattern = f"{'.'.join(path.with_suffix('').parts)}.*"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with LOG.open("w") as log:
        done = subprocess.run(["mutmut", "run", f"--max-children={workers}", pattern], env=environment,
                              stdout=log, stderr=subprocess.STDOUT, check=False)  # fmt: skip
    if done.returncode:
        raise UserError(f"mutmut ended with status {done.returncode}: see the end of {LOG}. "
                        "Does `python -m pytest tests/unit tests/unit_torch` pass?")  # fmt: skip


def report(
    path: Path, listed: list[dict[str, Any]], seconds: float, rows: list[tuple[object, ...]]
) -> list[str]:
    """Add a module's row to the table; return what is wrong with its survivors."""
    data = SourceFileMutationData(path=path)
    data.load()
    statuses = {name: status_by_exit_code[code] for name, code in data.exit_code_by_key.items()}
    unclear = set(statuses.values()) - {"killed", "timeout", "survived", "no tests"}
    if unclear or not statuses:
        return [f"{path}: some mutants are {', '.join(sorted(unclear)) or 'missing'}. See {LOG}."]
    survivors = [name for name, status in statuses.items() if status in ("survived", "no tests")]
    killed = len(statuses) - len(survivors)
    share = killed / len(statuses)
    rows.append((path.stem, len(statuses), killed, len(survivors), f"{100 * share:.1f} %",
                 f"{seconds:.0f}"))  # fmt: skip
    console.say("{}: {:,} mutants, {:,} killed, {:,} survived, {}, {} s".format(*rows[-1]))
    faults = []
    if share < ENOUGH:
        faults.append(
            f"{path}: {100 * share:.1f} % are killed; {100 * ENOUGH:.0f} % are asked for."
        )
    harmless = {tuple(change) for entry in listed for change in entry["mutants"]}
    changes = {change_of(name, path) for name in survivors}
    faults += [f"{path}: survives and is not listed in {LISTED}:\n  {written(change)}"
               for change in sorted(changes - harmless)]  # fmt: skip
    faults += [f"{path}: listed in {LISTED} and does not survive:\n  {written(change)}"
               for change in sorted(harmless - changes)]  # fmt: skip
    return faults


def change_of(mutant: str, path: Path) -> Change:
    """Return what a mutant changed."""
    lines = get_diff_for_mutant(mutant, path=path).splitlines()[2:]
    was, now = (" ".join(line[1:].strip() for line in lines if line[0] == side) for side in "-+")
    function, of_class = orig_function_and_class_names_from_key(mutant)
    return f"{of_class}.{function}" if of_class else function, was, now


def written(change: Sequence[str]) -> str:
    """Return a change as a line of the list."""
    quoted = (f"'{part}'" if "'" not in part else json.dumps(part) for part in change)
    return f"[{', '.join(quoted)}],"


if __name__ == "__main__":
    console.run(main)
