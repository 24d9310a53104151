"""Write requirements.lock: everything pyproject.toml asks for, and all that needs, pinned.

Run: ``make lock`` (a fresh environment in a temporary folder).

PyTorch is pinned without its build's local label (``2.13.0``, not ``2.13.0+cpu``), and the CUDA
libraries that a GPU build brings are left to it, so one lock serves every machine.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from cleantune import console, files

CUDA_PACKAGES = re.compile(r"^(nvidia-|cuda-|triton==)")


def main() -> None:
    """Resolve in a fresh environment and write what was installed."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    wanted = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [f"{folder}/bin/python", "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", *wanted], check=True)
        frozen = subprocess.run(
            [*pip, "freeze", "--all", "--exclude", "pip"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    pins = [re.sub(r"\+[\w.]+$", "", line) for line in frozen.splitlines()]
    pins = [pin for pin in pins if not CUDA_PACKAGES.match(pin)]
    header = "# Written by `make lock` from pyproject.toml; edit that one.\n"
    files.write_text(Path("requirements.lock"), header + "\n".join(pins) + "\n")
    console.say(f"requirements.lock pins {len(pins)} packages")


if __name__ == "__main__":
    console.run(main)
