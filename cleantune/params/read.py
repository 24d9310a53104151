"""params.yaml, read once, into typed objects that reject what they do not know.

A stage names the top-level keys it reads and gets an object that has these and no others::

    PARAMS = ("seed", "clean")
    params = read_params(PARAMS)

dvc.yaml lists the same keys, and a test holds the two together, so a stage that reads a key DVC
does not know of fails at once. The whole file is checked every time: a wrong value stops a run
before its first stage does any work.
"""

from collections.abc import Iterable
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cleantune.errors import UserError
from cleantune.params.messages import problems
from cleantune.params.sections import Params

PARAMS_FILE = Path("params.yaml")


def read_params(keys: Iterable[str], path: Path = PARAMS_FILE) -> Params:
    """Check all of ``path`` and return only the top-level ``keys``.

    Any other key is absent from the result: reading it raises ``AttributeError``.
    Raises ``UserError`` naming each wrong key, its value and what is allowed.
    """
    try:
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing. Run from the repository's top folder.") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {error}") from None
    wrong = problems(content)
    if wrong:
        raise UserError(f"{path}:\n" + "\n".join(f"  {p}" for p in wrong))
    params = Params.model_validate(content)
    return Params.model_construct(**{key: getattr(params, key) for key in keys})
