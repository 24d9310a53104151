"""Checkpoints of unfinished training, in ``.checkpoints/<stage>/<fingerprint>/``.

A run resumes only from checkpoints of its own fingerprint (``cleantune.training.fingerprint``). A
checkpoint is written to a temporary folder, listed with the hash of every file and of the best weights so
far, which are in a folder of their own, and takes its name in one rename. The last two are kept, and
the best weights that they name; one that does not match its list is skipped, and removed when
the next one is complete.
"""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cleantune import console, files
from cleantune.distributed import ranks
from cleantune.errors import UserError

ROOT = Path(".checkpoints")
KEPT = 2
LISTING = "files.json"
DAMAGED = ".damaged-"


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, stage: str, run: str) -> None:
        self.folder = ROOT / stage / run
        self._best: dict[str, str] = {}  # hashes of the best weights, as a checkpoint lists them

    def steps(self) -> list[int]:
        """Return the steps of the complete checkpoints, oldest first."""
        return sorted(int(p.name.removeprefix("step-")) for p in self.folder.glob("step-*"))

    def path(self, step: int) -> Path:
        """Return the folder of one checkpoint."""
        return self.folder / f"step-{step}"

    def latest(self) -> Path | None:
        """Return the newest undamaged checkpoint, or None; print which ones were skipped.

        Rank 0 decides, so that all processes resume from the same one.
        """
        newest = ranks.gather(self._newest() if ranks.rank() == 0 else None)[0]
        if newest is None:
            return None
        self._best = _beside(self.path(newest))
        return self.path(newest)

    def _newest(self) -> int | None:
        """Return the newest undamaged checkpoint's step; rename damaged ones."""
        for step in reversed(self.steps()):
            fault = _fault(self.path(step))
            if fault is None:
                return step
            console.say(
                f"the checkpoint of step {step} is damaged ({fault}); trying the one before"
            )
            aside = self.folder / f"{DAMAGED}{step}"
            shutil.rmtree(aside, ignore_errors=True)
            self.path(step).replace(aside)
        return None

    @contextmanager
    def write(self, step: int) -> Iterator[Path]:
        """Yield a folder for every process to write to; it becomes the checkpoint of ``step``.

        Raises ``UserError`` when the disk is full; earlier checkpoints stay as they are.
        """
        part = self.folder / f".step-{step}.part"
        first = ranks.rank() == 0
        with self.full_disk_error(f"the checkpoint of step {step}", part):
            if first:
                files.clear_up(self.path(step))
                part.mkdir()
            ranks.barrier()
            yield part
            ranks.barrier()
            if first:
                self._seal(part, step)
            ranks.barrier()

    @contextmanager
    def full_disk_error(self, what: str, part: Path | None = None) -> Iterator[None]:
        """Turn all errors of a full disk into one ``UserError``; remove the unfinished ``part``."""
        try:
            yield
        except Exception as error:  # torch and safetensors have exception classes of their own
            if not _disk_is_full(error, self.folder):
                raise
            if part:
                shutil.rmtree(part, ignore_errors=True)
            kept = self.steps()
            way_out = (f"The checkpoint of step {kept[-1]} is kept: free some space, then the same "
                       "command goes on from there." if kept else
                       "There is no checkpoint yet: free some space, then start again.")  # fmt: skip
            raise UserError(
                f"No space left on the disk of {self.folder} for {what}. {way_out}"
            ) from None

    def _seal(self, part: Path, step: int) -> None:
        """List the files of a checkpoint, make them durable, give it its name, drop the oldest."""
        files.write_json(part / LISTING, _durable(part) | self._best)
        sync(part / LISTING)
        files.put_in_place(self.path(step))
        sync(self.folder)
        kept = [self.path(step) for step in self.steps()[-KEPT:]]
        needed = {path.name for path in kept}
        needed |= {Path(name).parts[1] for path in kept for name in _beside(path)}
        for pattern in ("step-*", "best-*", f"{DAMAGED}*"):
            for path in self.folder.glob(pattern):
                if path.name not in needed:
                    shutil.rmtree(path)

    def best(self, step: int) -> Path:
        """Return the folder of the weights of ``step``, the best of the run then."""
        return self.folder / f"best-{step}"

    @contextmanager
    def write_best(self, step: int) -> Iterator[Path]:
        """Yield a folder for rank 0 to write the best weights to; checkpoints from now on name it.

        It stays as long as one of them is kept. Raises ``UserError`` when the disk is full.
        """
        guard = self.full_disk_error(f"the weights of step {step}")
        with guard, files.atomic_folder(self.best(step)) as part:
            yield part
            self._best = {f"../{self.best(step).name}/{name}": sha256
                          for name, sha256 in _durable(part).items()}  # fmt: skip
        sync(self.folder)

    def discard(self) -> None:
        """Remove all checkpoints of this run, after it has succeeded."""
        if ranks.rank() == 0:
            shutil.rmtree(self.folder, ignore_errors=True)


def _durable(folder: Path) -> dict[str, str]:
    """Sync the files of a folder to disk; return their hashes by name."""
    hashes = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        hashes[path.relative_to(folder).as_posix()] = files.sha256(path)
        sync(path)
    return hashes


def _listing(checkpoint: Path) -> dict[str, str]:
    listing: dict[str, str] = json.loads((checkpoint / LISTING).read_text(encoding="utf-8"))
    return listing


def _beside(checkpoint: Path) -> dict[str, str]:
    """Return the hashes of the best weights in a checkpoint's list."""
    return {name: sha for name, sha in _listing(checkpoint).items() if name.startswith("../")}


def _fault(checkpoint: Path) -> str | None:
    """Return what is wrong with a checkpoint, or None."""
    try:
        for name, sha256 in _listing(checkpoint).items():
            if files.sha256(checkpoint / name) != sha256:
                return f"{name} has changed"
    except (OSError, ValueError) as error:
        return str(error)
    return None


def _disk_is_full(error: BaseException, folder: Path) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    # torch's message for a failed write does not mention the disk.
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    unreported = isinstance(error, OSError | RuntimeError) and shutil.disk_usage(there).free < 2**20
    return unreported or "No space left" in str(error)


def sync(path: Path) -> None:
    """Sync a file, or the entries of a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
