"""benchmarks.training_scaling: what it measures is there, and growth is what it says.

One real measurement, on the two-layer model; the fit on costs made up.
"""

import numpy as np
import pytest

from benchmarks import training_scaling as scaling
from cleantune import files
from cleantune.data import tables
from tests import tiny
from tools import record


def test_growth_is_the_exponent():
    sizes = [10, 20, 70, 300]
    for power in (0.0, 0.5, 1.0, 2.0):
        assert scaling.growth(sizes, [3 * n**power for n in sizes]) == pytest.approx(power)


def test_one_of_the_three_grows_at_a_time_and_is_found_again():
    settings = scaling.grid([10, 20, 30], [4, 8], [1, 2])
    assert len(set(settings)) == len(settings) == 5
    costs = {s: scaling.Cost(float(i), 1.0, 1) for i, s in enumerate(settings)}
    assert [n for n, _ in scaling.swept(costs, "documents")] == [10, 20, 30]
    assert [n for n, _ in scaling.swept(costs, "length")] == [4, 8]
    assert [n for n, _ in scaling.swept(costs, "processes")] == [1, 2]


@pytest.mark.parametrize(("power", "word"), [(1.0, "holds"), (1.3, "DOES NOT HOLD")])
def test_growth_beyond_linear_is_not_hidden(capsys, tmp_path, monkeypatch, power, word):
    monkeypatch.chdir(tmp_path)
    costs = {scaling.Setting(n, 8, 1): scaling.Cost(n**power, 1.0, 10**9) for n in (100, 1000)}
    scaling.report(costs, 32, "", record.Record(None))
    said = " ".join(capsys.readouterr().out.split())
    assert f"data: grows as documents^{power:.2f}, between the last two ^{power:.2f}; at most ^1 {word}" in said  # fmt: skip
    scaling.draw(costs, 32, tmp_path / "new/scale.png")
    assert (tmp_path / "new/scale.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("processes", [1, 2])
def test_a_worker_writes_what_it_took(runner, tmp_path, monkeypatch, processes):
    tiny.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    setting = scaling.Setting(100, 16, processes)
    path = tmp_path / "made.parquet"
    scaling.make(path, setting)
    made = tables.read_table(path)
    assert len(made) == made["id"].nunique() == 100
    assert {len(ids) for ids in made["input_ids"]} == {16} == set(made["length"])
    assert all(ids[0] == 2 and ids[-1] == 3 for ids in made["input_ids"])
    run = runner.start(tmp_path, module="benchmarks.training_scaling", processes=processes, batch_size=8,
                       arguments=("--worker", str(path), "--steps=2"))  # fmt: skip
    assert not any(run.statuses), run.output
    cost = scaling.Cost(**files.read_json(path.with_suffix(".json")))
    assert cost.data > 0 < cost.step < run.seconds
    assert cost.memory > 1e8
    assert np.isfinite(cost).all()
    assert not list(tmp_path.glob(".checkpoints/benchmark/*")), "left behind"
