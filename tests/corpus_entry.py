"""An entry of `datasets` for files of a test, as `tools.data add` would write it."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML


def choose(
    name: str, train: object, test: object = None, validation: object = None, **fields: Any
) -> None:
    """Make ``dataset`` of params.yaml here an entry for files: each a path, or a path and its sha256."""
    yaml = YAML()
    content = yaml.load(Path("params.yaml").read_text())
    entry = content["datasets"].setdefault(
        name,
        {
            "hub": None,
            "format": "auto",
            "header": True,
            "labels": {},
            "test_share": 0.2,
            "licence": "unknown",
        },
    )
    given = {"train": train, "test": test, "validation": validation}
    entry["files"] = {split: _file(file) for split, file in given.items()}
    entry["columns"] = {"label": "label", "title": "title", "text": "text"}
    entry.update(fields)
    content["dataset"] = name
    with Path("params.yaml").open("w") as out:
        yaml.dump(content, out)


def _file(file: object) -> dict[str, object] | None:
    path, sha256 = file if isinstance(file, tuple) else (file, None)
    return {"path": str(path), "sha256": sha256} if path else None
