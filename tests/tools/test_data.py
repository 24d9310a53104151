"""tools.data in a real git and DVC repository: what it writes, what it takes back, what it refuses."""

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from cleantune import console
from cleantune.params.read import read_params
from tests.conftest import REPOSITORY
from tests.stages.test_download import Server, serving
from tests.tools import calling
from tools import data, data_files

CASES = REPOSITORY / "tests/field_cases"
GRAPH = """stages:
  download:
    cmd: python -m stages.download
    params: [dataset, "datasets.${dataset}"]
    deps: [data/custom]
    outs: [data/raw]
"""


def git(*words: str) -> str:
    identity = (
        "-c",
        "user.name=Test",
        "-c",
        "user.email=test@example.org",
        "-c",
        "core.quotePath=false",
    )
    return subprocess.run(
        ("git", *identity, *words), check=True, capture_output=True, text=True
    ).stdout


def dvc(*words: str) -> str:
    command = (sys.executable, "-m", "dvc", *words)
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with params.yaml and the download stage, all of it committed."""
    path = tmp_path_factory.mktemp("committed") / "repository"
    (path / "data/custom").mkdir(parents=True)
    (path / "data/custom/README.md").write_text("here\n")
    (path / "params.yaml").write_bytes((REPOSITORY / "params.yaml").read_bytes())
    (path / "dvc.yaml").write_text(GRAPH)
    (path / ".gitignore").write_text(".*.part\n/data/raw\n/files\n")
    with contextlib.chdir(path):
        git("init", "--quiet")
        git("config", "user.name", "Test")  # DVC commits experiments
        git("config", "user.email", "test@example.org")
        dvc("init", "--quiet")
        config = path / ".dvc/config"
        config.write_bytes((REPOSITORY / ".dvc/config").read_bytes())
        git("add", "--all")
        git("commit", "--quiet", "--message=Begin")
    return path


@pytest.fixture
def repository(committed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of ``committed`` to change."""
    path = tmp_path / "repository"
    shutil.copytree(committed, path)
    monkeypatch.chdir(path)
    return path


@pytest.fixture
def call(repository, monkeypatch, capsys):
    """Call the tool in this process, in a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(console.console, "_width", 80)
    return lambda *arguments: calling.call(data, arguments, monkeypatch, capsys)


def changed() -> list[str]:
    return git("status", "--short").splitlines()


def test_add_writes_an_entry_and_no_other_line_and_remove_takes_it_back(call):
    before = Path("params.yaml").read_text()
    status, said, _ = call("add", CASES / "semicolon.csv")
    assert status == 0
    assert "90 documents in 3 classes, 90 distinct texts" in said
    assert "--separator" in said and "sound is clear and warm" in said
    assert said.rstrip().endswith("next: dvc exp run -S dataset=semicolon")
    assert max(map(len, said.splitlines())) <= 80
    assert changed() == ["A  data/custom/semicolon/train.csv", " M params.yaml"]
    diff = git("diff", "--numstat", "params.yaml").split()
    assert diff[1] == "0" and 8 < int(diff[0]) < 15
    entry = read_params(("datasets",)).datasets["semicolon"]
    assert (entry.format, entry.separator, entry.columns.text) == ("csv", ";", "text")
    assert (
        Path("data/custom/semicolon/train.csv").read_bytes()
        == (CASES / "semicolon.csv").read_bytes()
    )
    assert call("remove", "semicolon")[0] == 0
    assert Path("params.yaml").read_text() == before
    assert changed() == []
    assert not Path("data/custom/semicolon").exists()


def test_a_folder_with_a_file_for_each_class_is_brought_in_whole(call):
    for name in ("good", "bad"):
        Path("reviews").mkdir(exist_ok=True)
        texts = [f"a {name} thing, no. {i}" for i in range(20)]
        Path(f"reviews/of.{name}").write_text("\n".join(texts) + "\n")
    assert call("add", "reviews", "--lines")[0] == 0
    shutil.rmtree("reviews")
    status, said, _ = call("show", "reviews")
    assert (status, "40 documents in 2 classes, 40 distinct texts" in said) == (0, True), said


def test_a_second_add_of_the_name_replaces_the_entry(call):
    call("add", CASES / "float_labels.csv", "--name", "mine", "--label-names", "0=bad,1=good")
    status, _, _ = call("add", CASES / "text_label.txt", "--name", "mine")
    entry = read_params(("datasets",)).datasets["mine"]
    assert (status, entry.labels, entry.header, entry.columns.text) == (0, {}, False, "0")
    assert changed() == ["A  data/custom/mine/train.txt", " M params.yaml"]
    text = Path("params.yaml").read_text()
    assert (text.count("\n  mine:"), text.count("added by tools.data")) == (1, 1)
    path = "data/custom/mine/train.txt"  # its own copy may be what is added again
    assert call("add", path, "--name", "mine", "--label-names", "good=fine")[0] == 0
    assert Path(path).read_bytes() == (CASES / "text_label.txt").read_bytes()


@pytest.mark.parametrize(("arguments", "says"), [
    (["overflow.csv"], "--join ', '"),
    (["several_labels.csv"], "--label-separator '|'"),
    (["flag_columns.csv"], "--label is_price"),
    (["nowhere.csv"], "nowhere.csv does not exist"),
    (["array.json", "--name", "sample"], "came with this repository. Give another: --name my_sample"),
    (["array.json", "--name", "1 2"], "a name is a letter, then"),
    (["array.json", "--label-names", "good"], "write VALUE=NAME"),
    (["array.json", "--separator", "abc"], "one character"),
    (["array.json", "utf16.csv"], "give the training file alone"),
])  # fmt: skip
def test_an_error_writes_nothing(call, arguments, says):
    name, *rest = arguments
    more = [CASES / a if a.endswith(".csv") else a for a in rest]
    status, out, err = call("add", CASES / name, *more)
    assert (status, out) == (1, "")
    assert says in err
    assert changed() == []


def test_where_two_encodings_are_likely_both_are_shown_and_one_is_asked_for(call, tmp_path):
    rows = "".join(f"{k},kéz és láb {i}, jó õr\n" for i in range(20) for k in ("a", "b"))
    path = tmp_path / "files/hu.csv"
    path.parent.mkdir()
    path.write_bytes(("label,text\n" + rows.replace(", jó", " jó")).encode("cp1252"))
    status, out, err = call("add", path)
    assert (status, out) == (1, "")
    assert "its encoding is not certain" in err
    assert "--encoding cp1252" in err and "jó õr" in err
    assert "--encoding cp1250" in err and "jó őr" in err
    assert changed() == []
    status, said, _ = call("add", path, "--encoding", "cp1250", "--dry")
    assert status == 0
    assert "jó őr" in said and "--dry: nothing is written" in said
    assert changed() == []


def test_a_failure_while_writing_takes_all_of_it_back(call, monkeypatch):
    call("add", CASES / "array.json", "--name", "mine")
    git("commit", "--quiet", "--all", "--message=Mine")
    before = Path("params.yaml").read_text()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cleantune.params.entries.write", fail)
    assert call("add", CASES / "plain.csv.gz", "--name", "mine")[0] == 1
    assert Path("params.yaml").read_text() == before
    assert changed() == []
    assert [p.name for p in Path("data/custom/mine").iterdir()] == ["train.json"]


def test_splits_validation_and_metadata_reach_the_entry(call, tmp_path):
    call("add", CASES / "splits.json")
    files = read_params(("datasets",)).datasets["splits"].files
    assert files and files.validation and files.test
    assert files.train.path == files.test.path == "data/custom/splits/corpus.json"
    assert (files.train.part, files.validation.part, files.test.part) == ("train", "val", "test")
    path = tmp_path / "files/more.csv"
    path.parent.mkdir()
    path.write_text("date,label,text\n" + "".join(
        f"2024-0{i % 9 + 1},{'ab'[i % 2]},the text {i} of it\n" for i in range(30)))  # fmt: skip
    other = shutil.copyfile(path, path.with_name("other.csv"))
    options = ("--test", other, "--metadata", "date", "--min-documents", 3, "--other", "rest")
    assert "│ metadata │ date" in call("add", path, *options)[1]
    entry = read_params(("datasets",)).datasets["more"]
    assert (entry.columns.metadata, entry.min_documents, entry.other) == (["date"], 3, "rest")
    assert entry.files and entry.files.test
    assert entry.files.test.path == "data/custom/more/test.csv"


def test_a_url_stays_a_url_with_its_sha256(call):
    content = (CASES / "semicolon.csv").read_bytes()
    with serving(
        Server({"/my%20reviews.csv": content, "/page": b"<!doctype html><p>Log in"})
    ) as server:
        status, said, err = call("add", f"{server.url}/my%20reviews.csv")
        assert status == 0, err
        assert "dataset=my_reviews" in said
        assert "is a web page" in call("add", f"{server.url}/page")[2]
    files = read_params(("datasets",)).datasets["my_reviews"].files
    assert files and files.train.path == f"{server.url}/my%20reviews.csv"
    assert files.train.sha256 and len(files.train.sha256) == 64
    assert changed() == [" M params.yaml"]
    assert call("remove", "my_reviews")[0] == 0
    assert changed() == []


def test_list_and_show_and_what_came_with_the_repository_stays(call):
    call(
        "add", CASES / "chinese_utf8.csv", "--name", "评论", "--label-names", "体育=spor,文学=Görüş"
    )
    status, listed, _ = call("list")
    assert status == 0
    assert "sample *" in listed and "评论" in listed
    _, shown, _ = call("show", "评论")
    assert "columns: {label: 类别, title: null, text: 评论}" in shown
    assert "60 documents in 3 classes" in shown and "Görüş" in shown
    status, _, err = call("remove", "sample")
    assert (status, "came with this repository" in err) == (1, True)
    assert "params.yaml has no dataset nothing; it has sample" in call("show", "nothing")[2]


def test_removing_the_corpus_in_use_puts_the_sample_back(call):
    call("add", CASES / "array.json")
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("dataset: sample ", "dataset: array "))
    _, said, _ = call("remove", "array")
    assert "dataset: sample again" in said
    assert changed() == []


@pytest.mark.slow
def test_queued_experiments_find_the_file_in_git_and_in_dvc(call, monkeypatch):
    call("add", CASES / "chinese_utf8.csv", "--name", "评论")
    monkeypatch.setattr(data_files, "IN_GIT", 1000)
    status, said, err = call("add", CASES / "folder_per_class")
    assert status == 0, err
    assert "A  data/custom/folder_per_class.dvc" not in changed()
    monkeypatch.setattr(data_files, "IN_GIT", 100)
    status, said, err = call("add", CASES / "folder_per_class")
    assert (status, "dvc add data/custom/folder_per_class" in said) == (0, True), err
    assert "A  data/custom/folder_per_class.dvc" in changed()
    git("commit", "--quiet", "--all", "--message=Corpora")
    for name in ("评论", "folder_per_class"):
        dvc("exp", "run", "--queue", "-S", f"dataset='{name}'")
    dvc("exp", "run", "--run-all")
    assert "Failed" not in dvc("queue", "status")
    assert call("remove", "folder_per_class")[0] == 0
    assert not Path("data/custom/folder_per_class.dvc").exists()
    entries = YAML(typ="safe").load(Path("params.yaml").read_text())["datasets"]
    assert "folder_per_class" not in entries
