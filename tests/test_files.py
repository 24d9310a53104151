"""Files and tables: whole or absent, whatever interrupts the writing; the same bytes every time."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from cleantune import console, files
from cleantune.data import tables
from cleantune.errors import UserError
from tests import kills
from tests.conftest import REPOSITORY

DOCUMENTS = pd.DataFrame(
    {"id": ["a", "b"], "title": ["T", ""], "text": ["x", "ü"], "label": [0, 1]}, index=[7, 3]
)


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "full"), ValueError()]
)
def test_an_interrupted_write_leaves_the_old_content(tmp_path, error):
    path, folder = tmp_path / "f.txt", tmp_path / "d"
    files.write_text(path, "old")
    with files.atomic_folder(folder) as part:
        (part / "old").touch()
    with pytest.raises(type(error)), files.atomic_file(path) as part:
        part.write_text("half")
        raise error
    with pytest.raises(type(error)), files.atomic_folder(folder) as part:
        (part / "half").touch()
        raise error
    assert path.read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["d", "f.txt"]
    assert os.listdir(folder) == ["old"]


def fill(folder: Path, content: str) -> None:
    with files.atomic_folder(folder) as part:
        for name in "abc":
            (part / name).write_text(content)


def content(folder: Path) -> dict[str, str]:
    return {p.name: p.read_text() for p in folder.iterdir()} if folder.exists() else {}


def test_a_kill_at_any_moment_leaves_a_whole_folder_that_the_next_run_finds(tmp_path):
    folder, old, new = tmp_path / "d", dict.fromkeys("abc", "old"), dict.fromkeys("abc", "new")
    fill(folder, "old")
    seen = []
    for _ in kills.at_each_change(lambda: fill(folder, "new")):
        seen.append(content(folder))
        assert seen[-1] in (old, new, {})
        with pytest.raises(ValueError, match="failed"), files.atomic_folder(folder):
            raise ValueError("failed")
        assert content(folder) == (seen[-1] or old)
        assert os.listdir(tmp_path) == ["d"]
        fill(folder, "old")
    assert all(x in seen for x in (old, new, {}))


def test_what_a_kill_left_half_removed_is_not_brought_back(tmp_path):
    folder = tmp_path / "d"
    fill(folder, "old")
    for _ in kills.at_each_change(lambda: fill(folder, "new")):
        shutil.rmtree(folder, ignore_errors=True)  # as DVC does before it runs a stage
        with pytest.raises(ValueError, match="failed"), files.atomic_folder(folder):
            raise ValueError("failed")
        assert len(content(folder)) in (0, 3)
        fill(folder, "old")


@pytest.mark.parametrize("write", ["write_text", "write_table"])
def test_a_full_disk_gives_one_message_and_no_half_file(tmp_path, write):
    # A real file system of 256 kB, in a mount namespace of its own.
    code = f"""
import os
from pathlib import Path
import numpy, pandas
from cleantune import console, files
from cleantune.data import tables
table = pandas.DataFrame({{"noise": numpy.random.default_rng(0).random(100_000)}})
def main():
    if {write!r} == "write_text":
        files.write_text(Path("disk/f"), "x" * 1_000_000)
    else:
        tables.write_table(Path("disk/f"), table, ("noise",))
try:
    console.run(main)
finally:
    print(os.listdir("disk"))
"""
    (tmp_path / "disk").mkdir()
    script = 'mount -t tmpfs -o size=256k tmpfs disk && exec "$0" -c "$1"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
    if subprocess.run([*command[:-1], "true"], capture_output=True).returncode:
        pytest.skip("this kernel allows no user namespaces, so no file system of our own")
    done = subprocess.run(
        [*command, sys.executable, code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: No space left"), done.stderr
    assert done.stderr.count("error") == 1
    assert done.stdout == "[]\n"


def test_a_terminated_write_leaves_nothing(tmp_path):
    code = f"""
import time
from pathlib import Path
from cleantune import console, files
def main():
    with files.atomic_folder(Path({str(tmp_path / "d")!r})) as part:
        (part / "half").touch()
        print("writing", flush=True)
        time.sleep(60)
console.run(main)
"""
    for sent, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        process.send_signal(sent)
        assert process.wait(20) == status
        process.stdout.close()
        assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("end", "status", "said"),
    [("pass", 0, "done\n"), ("raise SystemExit(143)", 143, "done\n"),
     ("raise UserError('no such thing')", 1, "done\nerror: no such thing\n")],
)  # fmt: skip
def test_a_process_of_several_ends_before_the_interpreter_can_abort_it(end, status, said):
    code = f"""
import atexit, os
from cleantune import console
from cleantune.errors import UserError
def main():
    print("done")
    {end}
atexit.register(os.abort)
console.run(main)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"RANK": "1", "WORLD_SIZE": "2"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (status, said)


@pytest.mark.parametrize("package", ["stages", "tools"])
def test_the_collector_rests_for_the_imports_of_a_command_and_works_in_its_main(package):
    code = f"""
import gc, sys
sys.argv[0] = "-m"  # as python has it while it looks for the module to run
import {package}
from cleantune import console
print(gc.isenabled())
console.run(lambda: print(gc.isenabled()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.stdout == "False\nTrue\n", done.stderr


def test_other_processes_do_not_look_at_what_rank_0_still_writes(monkeypatch):
    monkeypatch.setattr(console.console, "quiet", True)
    monkeypatch.setattr(files, "size", lambda path: pytest.fail(f"looked at {path}"))
    console.outputs(Path("models"))


def test_a_table_comes_back_as_written_and_has_the_same_bytes(tmp_path):
    first, second = tmp_path / "1.parquet", tmp_path / "2.parquet"
    tables.write_table(first, DOCUMENTS, tables.TEXT_COLUMNS)
    tables.write_table(second, DOCUMENTS[list(reversed(DOCUMENTS.columns))], tables.TEXT_COLUMNS)
    assert files.sha256(first) == files.sha256(second)
    read = tables.read_table(first)
    assert read.to_dict("list") == DOCUMENTS.to_dict("list")
    assert tables.full_text(read) == ["T x", "ü"]


@pytest.mark.parametrize("content", [None, b"", b"PAR1 and no more", b"{"])
def test_a_missing_or_damaged_input_names_the_file_and_the_way_out(tmp_path, content):
    path = tmp_path / "input"
    if content is not None:
        path.write_bytes(content)
    for read in (tables.read_table, files.read_json):
        with pytest.raises(UserError, match=r"input is (missing|damaged).*`dvc repro`"):
            read(path)


def test_a_table_without_a_needed_column_is_refused(tmp_path):
    tables.write_table(tmp_path / "t.parquet", DOCUMENTS, ("id",))
    with pytest.raises(UserError, match=r"no column label|damaged"):
        tables.read_table(tmp_path / "t.parquet", ("id", "label"))


def test_json_refuses_what_is_not_json(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "x.json", {"f1": float("nan")})
    files.write_json(tmp_path / "x.json", {"b": 1, "a": "é"})
    assert json.loads((tmp_path / "x.json").read_text()) == {"b": 1, "a": "é"}
    assert Path(tmp_path / "x.json").read_text().index('"b"') == 4
