"""The processor that this process runs on: rounding, and so the last digits of metrics, depends on it."""

import platform
from pathlib import Path

LINES = ("vendor_id", "cpu family", "model", "stepping", "CPU ")


def processor_lines() -> list[str]:
    """Return the lines in which Linux describes the model of the first processor, on x86 and ARM."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
    except OSError:
        return [platform.processor()]
    return [line for line in first.splitlines() if line.startswith(LINES)]


def processor() -> str:
    """Return the processor's name, as its maker writes it."""
    named = [line.partition(":")[2] for line in processor_lines() if line.startswith("model name")]
    return named[0].strip() if named else platform.processor() or platform.machine()
