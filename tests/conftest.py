"""What several test modules share."""

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests import tiny

REPOSITORY = Path(__file__).parent.parent

# Nothing here may reach further than loopback; libraries that would ask the Hub fail at once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["PYTHONPATH"] = str(REPOSITORY)

# A shell that starts the suite in the background makes it, and every process it starts, deaf to Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Nothing that imports make is garbage, so nothing is collected before the tests have been imported.
gc.disable()

# Two workers that each wait for the other's core while spinning would slow both.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none; begin with the files that take longest.

    Begun last, whole pipelines would keep one worker busy while the others have nothing to do.
    """
    here = Path(__file__).parent
    if any(item.get_closest_marker("gpu") for item in items):
        import torch  # late: it takes seconds

        for item in items:
            if item.get_closest_marker("gpu") and not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))
    first = ["pipeline", "distributed", "models", "studies", "stages"]
    order = {name: place for place, name in enumerate(first)}
    items.sort(key=lambda i: order.get(i.path.relative_to(here).parts[0], len(first)))


def pytest_collection_finish() -> None:
    """Collect garbage from here on, but not search what the imports have made again and again."""
    gc.freeze()
    gc.enable()


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run a stage in: the repository's own params.yaml, and no corrections."""
    (tmp_path / "params.yaml").write_bytes((REPOSITORY / "params.yaml").read_bytes())
    (tmp_path / "data").mkdir()
    for name in ("corrections", "test_corrections"):
        header = "dataset,id,text_sha256,old_label,new_label,note\n"
        (tmp_path / f"data/{name}.csv").write_text(header)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def runner() -> Iterator["tiny.Runner"]:
    """Run stages on tiny models in real processes, the imports paid for once."""
    from tests import tiny

    server = tiny.Runner()
    yield server
    server.close()
