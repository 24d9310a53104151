"""Error messages for params.yaml."""

import difflib
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from cleantune.params.sections import Params


def problems(content: Any) -> list[str]:
    """Return a line for each wrong key of what params.yaml contains, none when all is well."""
    try:
        Params.model_validate(content)
    except ValidationError as error:
        return sorted({_explain(e["loc"], e, content) for e in error.errors()})
    return []


def _explain(location: tuple[int | str, ...], error: Any, content: Any) -> str:
    """Turn one pydantic error into ``key: value is not allowed; allowed: ...``."""
    keys = _keys_in_file(location, content)
    name = ".".join(str(k) for k in keys)
    if error["type"] == "extra_forbidden":
        siblings = _schema_at(keys[:-1]).get("properties", {})
        close = difflib.get_close_matches(str(keys[-1]), siblings, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(siblings)}"
        return f"{name}: unknown key; {hint}"
    if error["type"] == "missing":
        return f"{name}: missing; allowed: {_allowed(_schema_at(keys))}"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    value = "" if error["input"] is None else error["input"]
    return f"{name}: {value!r} is not allowed; allowed: {_allowed(_schema_at(keys))}"


def _keys_in_file(location: tuple[int | str, ...], content: Any) -> list[int | str]:
    """Drop from a location what pydantic adds for the branches of a union."""
    keys: list[int | str] = []
    for i, key in enumerate(location):
        known = isinstance(content, dict) and key in content
        if known or i == 0 or (isinstance(content, dict) and i == len(location) - 1):
            keys.append(key)
            content = content.get(key) if isinstance(content, dict) else None
    return keys


def _schema_at(keys: Iterable[int | str]) -> dict[str, Any]:
    """Return the JSON schema of the value under ``keys``."""
    root = Params.model_json_schema()
    schema: dict[str, Any] = root
    for key in keys:
        branches = [_deref(b, root) for b in schema.get("anyOf", [schema])]
        schema = next((b for b in branches if b.get("type") == "object"), {})
        schema = schema.get("properties", {}).get(key, schema.get("additionalProperties", {}))
        schema = _deref(schema if isinstance(schema, dict) else {}, root)
    return schema


def _deref(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    definition: dict[str, Any] = root["$defs"][schema["$ref"].rsplit("/", 1)[-1]]
    return definition


def _allowed(schema: dict[str, Any]) -> str:
    """Describe the values that a JSON schema allows."""
    if "anyOf" in schema:
        return " or ".join(_allowed(branch) for branch in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(str(v) for v in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    kinds = {"integer": "a whole number", "number": "a number", "boolean": "true or false",
             "string": "text", "object": "a section", "null": "null", "array": "a list"}  # fmt: skip
    words = kinds.get(schema.get("type", ""), "a section")
    limits = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
    bounds = [f"{sign} {schema[key]}" for key, sign in limits.items() if key in schema]
    if "pattern" in schema:
        bounds.append(f"matching {schema['pattern']}")
    return " ".join([words, " and ".join(bounds)]).strip()
