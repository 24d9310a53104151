"""What a test in tests/unit may do: no PyTorch, no other process, and no more than a second.

    python -m pytest -p tests.unit_rules tests/unit      (what `make check` runs)

Tests that need PyTorch and are as quick otherwise are in tests/unit_torch.
"""

import sys
import time
from collections.abc import Iterator

import pytest

SECONDS = 1.0  # of the main thread's processor time: a busy machine adds nothing to it
STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"}

_in_test = False


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if event == "import" and arguments[0] == "torch":
        raise RuntimeError("PyTorch is imported: a test that needs it belongs in tests/unit_torch")
    if _in_test and event in STARTS:
        raise RuntimeError(f"{event}: a test that starts a process belongs outside tests/unit")


sys.addaudithook(_refuse)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """Fail a test that takes longer, or starts a process."""
    global _in_test
    _in_test, start = True, time.thread_time()
    try:
        yield
    finally:
        _in_test = False
    spent = time.thread_time() - start
    if spent > SECONDS:
        pytest.fail(
            f"took {spent:.1f} s of processor time; a unit test has {SECONDS:.0f}", pytrace=False
        )
