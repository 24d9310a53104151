"""Other values for single keys of params.yaml, by their dotted names."""

from collections.abc import Mapping
from typing import Any


def with_overrides(content: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of params.yaml's ``content`` in which each dotted key has another value.

    A key that ``content`` does not have is added: whether it may be there is for the schema to say.
    """
    changed = dict(content)
    for key, value in values.items():
        *parents, last = key.split(".")
        section = changed
        for parent in parents:
            inner = section.get(parent)
            section[parent] = section = dict(inner) if isinstance(inner, Mapping) else {}
        section[last] = value
    return changed
