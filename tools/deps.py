"""Write the modules that each stage imports into the `deps` of dvc.yaml.

    python -m tools.deps                    (or make deps)

Listed are the stage's module, whatever of this project it imports, directly or through others, at the
top of a file or inside a function, and the templates beside a module that reads them by its own path.
The other dependencies, of data and of libraries, are written by hand and stay as they are.
"""

import argparse
import ast
import re
from pathlib import Path

from cleantune import console, files

GRAPH = Path("dvc.yaml")
CODE = ("cleantune/", "stages/")
DEP = re.compile(r"^      - (\S+)\n", re.MULTILINE)
STAGE = re.compile(
    r"^  (?P<name>\w+):\n(?:    .*\n)*?    deps:\n(?P<deps>(?:      - \S+\n)+)", re.MULTILINE
)


def main() -> None:
    """Rewrite dvc.yaml where a list is not what the imports say."""
    argparse.ArgumentParser(prog="python -m tools.deps", description=__doc__,
                            formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()  # fmt: skip
    before = GRAPH.read_text(encoding="utf-8")
    graph = STAGE.sub(lambda stage: stage[0].replace(stage["deps"], listed(stage)), before)
    if graph == before:
        print(f"{GRAPH} lists what the stages import.")
    else:
        files.write_text(GRAPH, graph)
        print(f"{GRAPH} is rewritten: `git diff {GRAPH}`. `dvc repro` runs the stages concerned.")


def listed(stage: re.Match[str]) -> str:
    """Return the lines of a stage's dependencies, those on code taken from the imports."""
    by_hand = {dep for dep in DEP.findall(stage["deps"]) if not dep.startswith(CODE)}
    needed = by_hand.union(code(Path(), f"stages.{stage['name']}"))
    return "".join(f"      - {dep}\n" for dep in sorted(needed))


def code(root: Path, module: str) -> list[str]:
    """Return the paths, below ``root``, of a module, all that it imports, and their templates."""
    modules = closure(root, root / (module.replace(".", "/") + ".py"))
    templates = {other for path in modules if "__file__).parent" in path.read_text(encoding="utf-8")
                 for other in path.parent.iterdir() if other.is_file() and other.suffix != ".py"}  # fmt: skip
    return sorted(path.relative_to(root).as_posix() for path in modules | templates)


def closure(root: Path, path: Path) -> set[Path]:
    """Return a file and every module of the project that it imports, through others too."""
    seen, new = {path}, {path}
    while new:
        new = set().union(*(imports(root, p) for p in new)) - seen
        seen |= new
    return seen


def imports(root: Path, path: Path) -> set[Path]:
    """Return the modules below ``root`` that one file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    paths = {root / (name.replace(".", "/") + ".py") for name in names}
    return {path for path in paths if path.is_file()}


if __name__ == "__main__":
    console.run(main)
