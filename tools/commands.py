"""Commands of git and DVC that tools and studies run."""

import subprocess
import sys
from pathlib import Path

from cleantune.errors import UserError

DVC = (sys.executable, "-m", "dvc")


def command(*words: str, at: Path = Path()) -> str:
    """Run a command in a folder and return what it printed; ``UserError`` if it fails."""
    done = subprocess.run(words, cwd=at, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"`{' '.join(words)}` failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout
