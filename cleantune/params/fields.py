"""Types of single params."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]


Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


Revision = Annotated[str, Field(pattern="^[0-9a-f]{40}$")]


class Section(BaseModel):
    """A group of keys: no unknown ones, no silent conversion, no change after reading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _as_text(value: Any) -> Any:
    """Return a whole number as text, for -S columns.label=0 and -S labels={1: World} write one."""
    if isinstance(value, dict):
        return {_as_text(key): name for key, name in value.items()}
    return str(value) if type(value) is int else value


Text = Annotated[str, BeforeValidator(_as_text)]


Labels = Annotated[dict[str, str], BeforeValidator(_as_text)]
