"""finetune: what it writes, what stops it, and that every knob changes what it says.

Runs are real ones, on a two-layer model in one process; tests/distributed has those with more.
"""

import csv
import json
import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertModel,
)

from cleantune import files
from cleantune.data import tables
from cleantune.distributed import ranks
from cleantune.errors import UserError
from cleantune.labels import fine_tuned_label_model
from cleantune.models import classifier, encoder
from cleantune.params.sections import Lora
from cleantune.training import (
    acceleration,
    deepspeed_config,
    lora,
    losses,
    memory,
    optimizers,
    training_arguments,
    training_logs,
)
from tests import architectures, tiny
from tests.conftest import REPOSITORY

PARAMS = {"lr": 3e-3, "epochs": 2, "batch_size": 8, "precision": "fp32"}
STEPS = 12


@pytest.fixture
def folder(tmp_path):
    tiny.write(tmp_path, documents=48)
    tiny.set_params(tmp_path, **PARAMS)
    return tmp_path


@pytest.fixture(scope="module")
def plain(runner, tmp_path_factory):
    """A run with every knob as it stands in params.yaml."""
    path = tmp_path_factory.mktemp("plain")
    tiny.write(path, documents=48)
    tiny.set_params(path, **PARAMS)
    runner.run(path)
    return path


def model():
    return AutoModelForSequenceClassification.from_config(
        BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=2, num_attention_heads=1,
                   intermediate_size=8)
    )  # fmt: skip


def weights(folder):
    return load_file(folder / "models/finetuned/model.safetensors")


def moved(folder):
    """Return how far each weight went from the base model's."""
    base = load_file(folder / "base/model.safetensors")
    return {name: (value - base[name.removeprefix("bert.")]).abs().max().item()
            for name, value in weights(folder).items() if name.removeprefix("bert.") in base}  # fmt: skip


def test_a_further_seed_gives_the_model_that_it_gives_alone(
    folder, runner, plain, tmp_path_factory
):
    runner.run(folder, study__seeds=[7, 42])  # 42 is the main one, and is not trained twice
    alone = tmp_path_factory.mktemp("alone")
    tiny.write(alone, documents=48)
    runner.run(alone, seed=7, **PARAMS)
    seeds = folder / "models/finetuned/seeds"
    assert [path.name for path in seeds.iterdir()] == ["7"]
    for name in ("model.safetensors", "history.csv", "summary.json"):
        main = (folder / "models/finetuned" / name).read_bytes()
        assert main == (plain / "models/finetuned" / name).read_bytes()
        assert (seeds / "7" / name).read_bytes() == (alone / "models/finetuned" / name).read_bytes()
        assert name == "summary.json" or main != (seeds / "7" / name).read_bytes()
    assert not list((folder / ".checkpoints/finetune").iterdir())


# ---- the options, one by one


def test_weight_decay_spares_biases_and_norms():
    built = model()
    names = {id(p): n for n, p in built.named_parameters()}
    for group in optimizers.groups(built, 1.0, 0.1, 1.0):
        for parameter in group["params"]:
            name = names[id(parameter)]
            spared = name.endswith("bias") or "LayerNorm" in name
            assert group["weight_decay"] == (0.0 if spared else 0.1), name


def test_layer_lr_decay_slows_each_layer_by_the_same_share():
    built = model()
    names = {id(p): n for n, p in built.named_parameters()}
    rates = {
        names[id(p)]: g["lr"] for g in optimizers.groups(built, 1.0, 0.0, 0.5) for p in g["params"]
    }
    assert rates["classifier.weight"] == rates["bert.pooler.dense.weight"] == 1.0
    assert rates["bert.encoder.layer.1.output.dense.weight"] == 0.5
    assert rates["bert.encoder.layer.0.output.dense.bias"] == 0.25
    assert rates["bert.embeddings.word_embeddings.weight"] == 0.125
    options = fine_tuned_label_model.OPTIONS.model_copy(update={"layer_lr_decay": 0.5})
    assert min(g["lr"] for g in optimizers.build(built, 1.0, options).param_groups) == 0.125


def test_freezing_more_layers_than_there_are_is_refused():
    with pytest.raises(UserError, match="3 is more than the model's 2 layers"):
        optimizers.freeze(model(), False, 3)


@pytest.mark.parametrize(("kind", "left"), [("adamw", 0.499), ("adam", 0.49), ("sgd", 0.499)])
def test_weight_decay_goes_through_the_gradient_in_adam_and_past_it_in_adamw(kind, left):
    built = model()
    weight = built.bert.encoder.layer[0].output.dense.weight
    torch.nn.init.constant_(weight, 0.5)
    weight.grad = torch.zeros_like(weight)  # adam makes any gradient, of decay too, a step of lr
    options = fine_tuned_label_model.OPTIONS.model_copy(
        update={"optimizer": kind, "weight_decay": 0.2}
    )
    optimizers.build(built, 0.01, options).step()
    torch.testing.assert_close(weight, torch.full_like(weight, left))


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_the_optimizer_is_the_one_asked_for(folder, runner, plain, kind):
    runner.run(folder, finetune__optimizer=kind)
    name = "bert.encoder.layer.1.output.dense.weight"
    assert not torch.equal(weights(folder)[name], weights(plain)[name])
    if kind == "sgd":  # a step of Adam is about lr long whatever the gradient; SGD's is not
        assert moved(folder)[name] < moved(plain)[name]


@pytest.mark.parametrize(
    ("scheduler", "last"), [("linear", 0.0), ("cosine", 0.0), ("constant", 3e-3)]
)
def test_the_learning_rate_warms_up_and_follows_the_scheduler(folder, runner, scheduler, last):
    runner.run(
        folder,
        finetune__scheduler=scheduler,
        finetune__warmup=0.25,
        finetune__early_stopping_patience=9,
    )
    rates = [row["learning_rate"] for row in tiny.history(folder)]
    assert rates[:4] == pytest.approx([0.0, 1e-3, 2e-3, 3e-3])
    halfway = {"linear": 3e-3 * 5 / 9, "cosine": 3e-3 * 0.5868, "constant": 3e-3}[scheduler]
    assert rates[7] == pytest.approx(halfway, rel=1e-3)
    assert rates[-1] < 5e-4 if last == 0 else rates[-1] == last


@pytest.mark.parametrize(
    ("knob", "parts"),
    [
        ({"freeze_embeddings": True}, ["embeddings"]),
        ({"freeze_layers": 1}, ["embeddings", "layer.0"]),
    ],
)
def test_what_is_frozen_does_not_move_and_the_rest_does(folder, runner, knob, parts):
    runner.run(folder, **{f"finetune__{name}": value for name, value in knob.items()})
    for name, distance in moved(folder).items():
        assert (distance == 0) == any(part in name for part in parts), name


ADAPTED = [
    # kind, precision, ZeRO stages of two processes
    ("lora", "fp32", (3,)),
    ("dora", "fp32", (3,)),
    ("lora", "bf16", (0, 2, 3)),
]
PEFT_ALONE = """
import sys, torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForSequenceClassification as Classifier
config = AutoConfig.from_pretrained("models/finetuned")
base = Classifier.from_pretrained("base", config=config, dtype=torch.float32)
model = PeftModel.from_pretrained(base, "models/finetuned/adapter").eval()
print([model(input_ids=torch.tensor([ids])).logits.tolist()[0] for ids in eval(sys.argv[1])])
"""


@pytest.mark.parametrize(("kind", "precision", "stages"), ADAPTED)
def test_adapters_learn_the_same_in_two_processes_and_are_merged_as_peft_reads_them(
    folder, runner, kind, precision, stages
):
    tiny.set_params(folder, epochs=1, batch_size=12, precision=precision, zero_stage=0,
                    finetune__lora={"rank": 2, "alpha": 8.0, "kind": kind})  # fmt: skip
    if precision == "bf16":
        tiny.set_params(folder, lr=1e-4)  # at 3e-3 rounding alone moves the loss 0.3 %
    alone = runner.run(folder)
    for stage in stages:
        two = runner.run(folder, before="note_precisions", processes=2, zero_stage=stage)
        assert two == pytest.approx(alone, rel=1e-6 if precision == "fp32" else 1e-3)
        assert files.read_json(folder / "precisions.json") == {
            "learns": ["torch.float32"],
            "frozen": ["torch.bfloat16" if precision == "bf16" else "torch.float32"],
        }
    out = folder / "models/finetuned"
    base = load_file(folder / "base/model.safetensors")["encoder.layer.0.intermediate.dense.weight"]
    change = weights(folder)["bert.encoder.layer.0.intermediate.dense.weight"] - base
    assert change.abs().max() > 0
    assert kind == "dora" or torch.linalg.matrix_rank(change, rtol=1e-3) == 2
    merged = AutoModelForSequenceClassification.from_pretrained(out).eval()
    assert {p.dtype for p in merged.parameters()} == {torch.float32}
    plain = AutoModelForSequenceClassification.from_pretrained(
        folder / "base", config=AutoConfig.from_pretrained(out), dtype=torch.float32
    )
    adapted = PeftModel.from_pretrained(plain, out / lora.ADAPTER).eval()
    ids = torch.arange(5, 25).view(2, 10)
    torch.testing.assert_close(
        adapted(input_ids=ids).logits, merged(input_ids=ids).logits, rtol=0, atol=1e-5
    )
    kept = load_file(out / lora.ADAPTER / "adapter_model.safetensors")
    assert all("lora_" in name or "classifier" in name for name in kept), sorted(kept)
    config = files.read_json(out / lora.ADAPTER / "adapter_config.json")
    assert config["base_model_name_or_path"] == "base"
    assert str(folder) not in json.dumps(config)


def test_a_target_that_the_model_lacks_is_named(folder, runner):
    run = runner.start(folder, finetune__lora={"rank": 2, "alpha": 4.0, "targets": ["q_proj"]})
    assert run.statuses == [1]
    assert "finetune.lora.targets: 'q_proj' is the name of no linear layer" in " ".join(
        run.output.split()
    )
    assert "Traceback" not in run.output


def test_what_the_base_model_lacks_learns_whole_beside_adapters(folder, runner):
    """As after masked-language-model pretraining, which leaves BERT without a pooler."""
    base = BertModel.from_pretrained(folder / "base", add_pooling_layer=False)
    base.save_pretrained(folder / "base")
    tiny.record_base(folder)
    tiny.set_params(folder, epochs=1, batch_size=16, study__seeds=[7],
                    finetune__lora={"rank": 2, "alpha": 4.0, "kind": "rslora"})  # fmt: skip
    runner.run(folder, zero_stage=3, processes=2)
    out = folder / "models/finetuned"
    kept = load_file(out / lora.ADAPTER / "adapter_model.safetensors")
    pooler = kept["base_model.model.bert.pooler.dense.weight"]
    assert torch.equal(weights(folder)["bert.pooler.dense.weight"], pooler)
    assert set(load_file(out / "seeds/7" / lora.ADAPTER / "adapter_model.safetensors")) == set(kept)
    # The merged model says of validation what the trained one did, and so does the adapter elsewhere.
    table = tables.read_table(folder / tables.TOKENS / "validation.parquet")
    tokens = [ids.tolist() for ids in table["input_ids"]]
    logits = torch.from_numpy(classifier.load(out).logits(tokens))
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(table["label"].to_numpy()))
    measured = files.read_json(out / "summary.json")["validation"]["loss"]
    assert loss.item() == pytest.approx(measured, rel=1e-5)
    command = [sys.executable, "-c", PEFT_ALONE, str(tokens)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(
        torch.tensor(json.loads(done.stdout.splitlines()[-1])), logits, rtol=0, atol=1e-5
    )


def test_l1_pulls_weights_to_zero(folder, runner, plain):
    runner.run(folder, finetune__l1=0.01)
    name = "bert.encoder.layer.1.output.dense.weight"
    assert weights(folder)[name].abs().sum() < weights(plain)[name].abs().sum()


def test_dropout_replaces_the_models_own(folder, runner, plain):
    losses = runner.run(folder, finetune__dropout=0.5)
    config = json.loads((folder / "models/finetuned/config.json").read_text())
    assert config["hidden_dropout_prob"] == config["attention_probs_dropout_prob"] == 0.5
    assert losses[0] != tiny.losses(plain)[0]


def test_label_smoothing_mixes_in_the_mean_over_classes(folder, runner, plain):
    hard = tiny.losses(plain)[0]
    half = runner.run(folder, finetune__label_smoothing=0.4)[0]
    full = runner.run(folder, finetune__label_smoothing=0.8)[0]
    assert full != pytest.approx(hard, rel=1e-3)
    assert half == pytest.approx((hard + full) / 2, rel=1e-5)


def test_r_drop_adds_the_disagreement_of_two_passes_times_its_weight(folder, runner):
    tiny.write_model(folder / "base", dropout=0.2)
    files.write_json(
        folder / "models/pretrained/base_model.json",
        encoder.pointer_to("base", None, folder / "base"),
    )
    one, two, three = (
        runner.run(folder, epochs=1, finetune__label_smoothing=0.2, finetune__r_drop=weight)[0]
        for weight in (1.0, 2.0, 3.0)
    )
    assert two > one + 1e-3
    assert three - two == pytest.approx(two - one, rel=1e-3)


@pytest.mark.parametrize("architecture", ["bert", "llama", "phi3"])
def test_r_drop_without_dropout_is_refused(architecture):
    options = training_arguments.PLAIN.model_copy(update={"r_drop": 1.0})
    reader = architectures.tokenizer("bytes", ("<pad>", "<bos>", "<eos>"))
    for share in (0.0, 0.1):
        config = architectures.config(architecture, reader)
        optimizers.set_dropout(config, share)
        built = AutoModelForSequenceClassification.from_config(config)
        acceleration.speed_up(built)
        if share:
            optimizers.refuse_r_drop_without_dropout(built, options)
            continue
        optimizers.refuse_r_drop_without_dropout(built, training_arguments.PLAIN)
        with pytest.raises(
            UserError, match=r"Set finetune.dropout to 0\.1, or finetune.r_drop to 0"
        ):
            optimizers.refuse_r_drop_without_dropout(built, options)


def test_the_disagreement_is_half_the_symmetric_divergence():
    first, second = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0)).double()
    p, q = (torch.distributions.Categorical(logits=x) for x in (first, second))
    divergence = torch.distributions.kl_divergence
    torch.testing.assert_close(
        losses.r_drop_divergence(torch.cat([first, second])),
        (divergence(p, q) + divergence(q, p)) / 2,
    )


@pytest.mark.parametrize(("smoothing", "passes"), [(0.0, 1), (0.1, 1), (0.1, 2)])
def test_the_loss_of_a_soft_label_is_the_cross_entropy_with_both_classes(smoothing, passes):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6 * passes, 4, generator=generator)
    labels, others = torch.arange(6) % 4, torch.arange(1, 7) % 4
    shares = torch.tensor([0.0, 0.1, 0.4, 0.5, 0.9, 1.0])
    target = (1 - shares)[:, None] * torch.eye(4)[labels] + shares[:, None] * torch.eye(4)[others]
    expected = torch.nn.functional.cross_entropy(
        logits, target.repeat(passes, 1), reduction="none", label_smoothing=smoothing
    )
    found = losses.classification(logits, labels, smoothing, soft=(others, shares))
    torch.testing.assert_close(found, expected)
    hard = losses.classification(logits, labels, smoothing)
    assert (found.view(passes, -1)[:, 0] == hard.view(passes, -1)[:, 0]).all(), "it has no other"


def test_clipping_shortens_the_step(folder, runner, plain):
    runner.run(folder, finetune__max_gradient_norm=1e-4, finetune__optimizer="sgd", lr=0.1,
               finetune__weight_decay=0.0)  # fmt: skip
    clipped = max(moved(folder).values())
    runner.run(folder, finetune__max_gradient_norm=0.0)
    assert clipped <= 0.1 * 1e-4 * STEPS * 10  # momentum of 0.9 adds up to 10 steps
    assert max(moved(folder).values()) > 10 * clipped


def test_momentum_carries_steps_on(folder, runner):
    distances = []
    for momentum in (0.0, 0.9):
        runner.run(folder, finetune__optimizer="sgd", finetune__momentum=momentum,
                   finetune__weight_decay=0.0)  # fmt: skip
        distances.append(max(moved(folder).values()))
    assert distances[1] > 2 * distances[0] > 0


@pytest.mark.parametrize(("micro_batch_size", "documents"), [(None, [8]), (3, [3, 3, 2])])
@pytest.mark.parametrize(("recompute", "passes"), [(False, 1), (True, 2)])
def test_micro_batches_and_recomputing_change_what_is_computed_at_once(
    folder, runner, micro_batch_size, documents, recompute, passes
):
    runner.run(folder, before="note_passes", epochs=1, finetune__micro_batch_size=micro_batch_size,
               finetune__gradient_checkpointing=recompute)  # fmt: skip
    noted = json.loads((folder / "passes.json").read_text())
    assert noted == [[n, passes] for n in documents] * (48 // 8)


@pytest.mark.parametrize(
    ("stage", "offload", "away"),
    [(0, "all", set()), (1, "none", set()), (2, "optimizer", {"optimizer"}), (2, "all", {"optimizer"}),
     (3, "optimizer", {"optimizer"}), (3, "all", {"optimizer", "param"})],
)  # fmt: skip
def test_offload_moves_what_the_stage_can_move(stage, offload, away):
    config = deepspeed_config.config(stage, offload)["zero_optimization"]
    assert config["stage"] == stage
    found = {n.removeprefix("offload_"): v["device"] for n, v in config.items() if "offload_" in n}
    assert found == dict.fromkeys(away, "cpu")


def test_another_seed_gives_another_model(folder, runner, plain):
    runner.run(folder, seed=7)
    assert tiny.losses(folder) != tiny.losses(plain)


# ---- what it writes, and what stops it


def test_the_folder_is_complete_and_names_the_classes(plain):
    out = plain / "models/finetuned"
    built = AutoModelForSequenceClassification.from_pretrained(out)
    assert [built.config.id2label[i] for i in range(3)] == tiny.CLASSES
    assert AutoTokenizer.from_pretrained(out).model_max_length == 128
    with (out / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == training_logs.HISTORY_COLUMNS
    assert [int(row["step"]) for row in rows] == list(range(1, STEPS + 1))
    judged = [float(row["validation_macro_f1"]) for row in rows if row["validation_macro_f1"]]
    summary = files.read_json(out / "summary.json")
    assert summary["validation"]["macro_f1"] == max(judged)
    assert sum(summary["training_documents"].values()) == 48
    assert summary["clean"] == tiny.STEPS


def test_training_goes_on_while_the_loss_falls_though_no_class_is_told_apart_yet(folder, runner):
    run = runner.start(
        folder, epochs=5, lr=1e-6, precision="fp32", finetune__early_stopping_patience=1
    )
    judged = [row for row in tiny.history(folder) if "validation_macro_f1" in row]
    assert len({row["validation_macro_f1"] for row in judged}) == 1
    falling = [row["validation_loss"] for row in judged]
    assert falling == sorted(falling, reverse=True)
    assert len(judged) == 5
    steps = len(tiny.history(folder))
    advised = f"epochs={math.ceil(500 / steps)} would make at least 100"
    assert f"note: only {steps} optimizer steps for 3 classes; {advised}" in " ".join(
        run.output.split()
    )


def test_the_last_lines_say_where_the_model_is_bad_after_a_resume_too(
    folder, runner, tmp_path_factory
):
    path = folder / tables.TOKENS / "train.parquet"
    table = tables.read_table(path)
    last = table.index[table["label"] == 2]
    table.loc[last[3:], "label"] = 0  # three documents of the last class are left
    tables.write_table(path, table, tuple(table.columns))
    tiny.set_params(folder, lr=0.5, epochs=3)  # too high: the first epoch is the best
    killed = tmp_path_factory.mktemp("killed")
    shutil.copytree(folder, killed, dirs_exist_ok=True)

    def warnings(output: str) -> list[str]:
        *_, end = " ".join(output.split()).partition("wrote models/finetuned")
        return end.split(" warning: ")[1:]

    said = warnings(runner.start(folder).output)
    assert re.match(
        r"all 21 predictions on validation are |Sci/Tech \(0 of \d+ found\) is never", said[0]
    )
    assert said[-1].startswith("1 of 3 classes has fewer than 10 training documents (Sci/Tech 3)")
    at_an_epochs_end = {"AT": str(2 * STEPS // 2)}
    run = runner.start(killed, before="kill_after_checkpoint", environment=at_an_epochs_end)
    assert run.statuses == [-9], run.output
    again = runner.start(killed).output
    assert "resuming from the checkpoint" in again
    assert warnings(again) == said


def test_training_stops_early_and_the_best_epoch_is_kept(folder, runner):
    runner.run(folder, epochs=9, lr=0.5, finetune__early_stopping_patience=1)
    judged = [
        row["validation_macro_f1"] for row in tiny.history(folder) if "validation_macro_f1" in row
    ]
    assert len(judged) < 9
    assert judged[-1] <= max(judged[:-1])
    assert (
        files.read_json(folder / "models/finetuned/summary.json")["best_epoch"]
        == judged.index(max(judged)) + 1
    )


def test_a_document_of_weight_0_counts_for_nothing_in_r_drop(folder, runner):
    from cleantune.data import tables

    path = folder / "data/tokens/train.parquet"
    table = tables.read_table(path)
    table["weight"] = [0.0] * 8 + [1.0] * 40
    columns = ("id", "input_ids", "label", "length", "weight")
    options = {"batch_size": 48, "epochs": 1, "finetune__dropout": 0.2, "finetune__r_drop": 1.0}
    found = []
    for _ in range(2):
        tables.write_table(path, table, columns)
        found.append(runner.run(folder, **options))
        # Other words, of the same number: dropout draws the same in both runs.
        table["input_ids"] = [
            [2, *[5] * (len(ids) - 2), 3] if i < 8 else ids
            for i, ids in enumerate(table["input_ids"])
        ]
    assert found[1] == pytest.approx(found[0], rel=1e-6)


def test_a_document_of_weight_0_counts_for_nothing(folder, runner):
    import pandas as pd

    from cleantune.data import tables

    path = folder / "data/tokens/train.parquet"
    table = tables.read_table(path)
    table["weight"] = [0.0] * 8 + [1.0] * 40
    columns = ("id", "input_ids", "label", "length", "weight")
    tables.write_table(path, table, columns)
    before = runner.run(folder, batch_size=48, epochs=1)
    table["label"] = (
        pd.Series([(label + 1) % 3 for label in table["label"][:8]])
        .reindex(table.index)
        .fillna(table["label"])
        .astype(int)
    )
    tables.write_table(path, table, columns)
    assert runner.run(folder) == before


@pytest.mark.parametrize("name", ["data/tokens/train.parquet", "data/raw/source.json", "base/model.safetensors",
                                  "models/pretrained/base_model.json"])  # fmt: skip
def test_a_missing_input_is_named(folder, runner, name):
    (folder / name).unlink()
    run = runner.start(folder)
    assert run.statuses == [1]
    assert "Traceback" not in run.output
    assert name.split("/")[0] in run.output


def test_an_optimizer_in_ds_config_is_refused(tmp_path):
    path = tmp_path / "ds_config.json"
    path.write_text('{"optimizer": {"type": "AdamW"}}')
    with pytest.raises(UserError, match="remove 'optimizer'"):
        deepspeed_config.config(2, path=path)


@pytest.mark.slow
def test_without_compiler_nvcc_and_network_it_trains_all_the_same(folder, plain):
    tiny.set_params(folder, zero_stage=3, finetune__offload="all", finetune__profiler=False)
    nothing = folder / "bin"
    nothing.mkdir()
    hidden = {"CC", "CXX", "CUDA_HOME", "CUDA_PATH"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"PATH": str(nothing), "OMP_NUM_THREADS": "1"}
    assert shutil.which("c++", path=str(nothing)) is None
    command = tiny.without_network(sys.executable, "-m", "stages.finetune")
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert tiny.losses(folder) == pytest.approx(tiny.losses(plain), rel=1e-4)


# ---- memory


def test_auto_takes_the_first_stage_that_fits(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "8")
    # One of the processes has more memory than the others: the least counts.
    monkeypatch.setattr(ranks, "gather", lambda size: [2 * size] + [size] * 7)
    model, room = memory.Size(1_000_000_000, 0, 10_000_000), memory.ROOM_FOR_STATES
    chosen = []
    for gigabytes in (40, 20, 10, 2):
        monkeypatch.setattr(memory, "device_bytes", lambda size=gigabytes: size * 1e9)
        stage, why = memory.zero_stage("auto", model)
        chosen.append(stage)
        assert f"{gigabytes * room:.1f} GB" in why
    assert chosen == [0, 1, 2, 3]
    small = memory.Size(10, 0, 10)
    assert memory.zero_stage("auto", small, "optimizer")[0] == 1, "ZeRO-0 offloads nothing"
    assert memory.zero_stage("auto", small, "all")[0] == 3
    assert "it offloads nothing" in memory.zero_stage(0, small, "all")[1]


def test_the_estimate_counts_what_the_settings_let_zero_3_gather():
    settings = json.loads((REPOSITORY / "ds_config.json").read_text())["zero_optimization"]
    assert settings["stage3_max_live_parameters"] == memory.MAX_LIVE


@pytest.mark.parametrize(
    ("stage", "offload", "gpu", "weights", "gradients", "optimizer", "gathered"),
    [
        (0, "none", True, 4, 4, 12, 0),  # the optimizer's moments, and all gradients in one tensor
        (0, "all", True, 4, 4, 12, 0),  # ZeRO-0 offloads nothing
        (1, "none", True, 4, 4, 16 / 8, 0),  # the optimizer has a copy of the weights
        (1, "optimizer", True, 4, 4, 0, 0),
        (2, "none", True, 4, 4 / 8, 16 / 8, 0),
        (2, "optimizer", True, 4, 0, 0, 0),
        (2, "optimizer", False, 4, 4 / 8, 16 / 8, 0),  # to where it is already
        (3, "none", True, 4 / 8, 4 / 8, 16 / 8, 36),
        (3, "optimizer", True, 4 / 8, 0, 0, 36),
        (3, "all", True, 0, 0, 0, 36),
        (3, "all", False, 4 / 8, 4 / 8, 16 / 8, 36),
    ],
)
def test_states_are_what_a_count_by_hand_says(
    monkeypatch, stage, offload, gpu, weights, gradients, optimizer, gathered
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    gathered *= 1_000_000
    expected = 8_000_000 * (weights + gradients + optimizer) + gathered
    assert memory.states_bytes(stage, memory.Size(8_000_000, 0, 1_000_000), 8, offload) == expected
    half = memory.Size(4_000_000, 4_000_000, 1_000_000)
    expected = (expected + gathered) / 2 + 4_000_000 * weights  # no gradient, no optimizer
    assert memory.states_bytes(stage, half, 8, offload) == expected


@pytest.mark.parametrize(
    "options",
    [{}, {"freeze_embeddings": True}, {"freeze_layers": 1}, {"lora": Lora(rank=2, alpha=4)}],
)
def test_the_size_is_known_before_there_is_a_model(options):
    built = model()
    changed = training_arguments.PLAIN.model_copy(update=options)
    expected = memory.size_of(built.config, changed)
    optimizers.freeze(built, changed.freeze_embeddings, changed.freeze_layers)
    built = lora.adapt(built, changed.lora)
    assert memory.size(built) == expected
    learning = sum(p.numel() for p in built.parameters() if p.requires_grad)
    assert expected.trainable == learning
    assert learning + expected.frozen == sum(p.numel() for p in built.parameters())
    assert (expected.frozen == 0) == (not options)


def test_one_process_exchanges_no_gradients():
    assert memory.states_bytes(0, memory.Size(100, 50, 10), 1) == 16 * 100 + 4 * 50
    assert memory.states_bytes(0, memory.Size(100, 50, 10), 2) == 20 * 100 + 4 * 50


RUN = memory.Run(
    batch=2, length=8, chunks=1, recomputing=False, zero=2, offload="none", bf16=True,
    model=memory.Size(8 * 10**9, 0, 10**9), hidden=16, layers=3, heads=4,
)  # fmt: skip


def test_activations_are_what_a_count_by_hand_says():
    layer = 34 * 2 * 8 * 16 + 5 * 2 * 4 * 8 * 8  # features, and scores of attention
    assert RUN.activations() == 3 * layer
    assert replace(RUN, bf16=False).activations() == 2 * 3 * layer
    assert replace(RUN, chunks=5).activations() == 5 * 3 * layer
    assert replace(RUN, recomputing=True).activations() == layer + 3 * 2 * 2 * 8 * 16
    inputs = 4 * 2 * 8 * (5 * 16 + 64)  # of adapters: the feed-forward part's second layer is wider
    assert replace(RUN, adapters=True).activations() == 3 * (layer + inputs)


def test_a_lever_that_saves_nothing_is_not_named(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    said = memory.out_of_memory(RUN)
    assert "about 52.00 GB a process for weights" in said
    assert "micro_batch_size: 1 " in said
    assert "max_length: 4 " in said
    assert "gradient_checkpointing: true " in said
    assert (
        "zero_stage: 3       19.80 GB" in said
    )  # of 52, 24 stay, 4.2 that are gathered, 4 of a gradient
    assert "offload: optimizer       20.00 GB" in said
    used = replace(RUN, batch=1, recomputing=True, zero=3, offload="all")
    assert memory.out_of_memory(used).count("\n") == 1, "only max_length is left"
    assert "from ZeRO-1 on" in memory.out_of_memory(replace(RUN, zero=0))


@pytest.mark.parametrize(
    ("listed", "file"),
    [("0::/job/step", "job/memory.max"), ("0::/elsewhere", "memory.max"),
     ("3:cpu:/x\n2:memory:/job", "memory/job/memory.limit_in_bytes")],
)  # fmt: skip
def test_a_control_group_limits_the_memory(tmp_path, listed, file):
    (tmp_path / "own").write_text(listed + "\n")
    (tmp_path / "job/step").mkdir(parents=True)
    (tmp_path / "job/step/memory.max").write_text("max\n")
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("123456\n")
    assert list(memory._limits(tmp_path / "own", tmp_path)) == [123456]
    assert list(memory._limits(tmp_path / "none", tmp_path)) == []


def test_running_out_of_memory_names_the_params_that_help(folder, runner):
    run = runner.start(folder, before="out_of_memory")
    assert run.statuses == [1]
    assert "Traceback" not in run.output
    for lever in ("micro_batch_size: 4", "max_length", "gradient_checkpointing"):
        assert lever in run.output
    assert "zero_stage: 3" not in run.output, "of one process"
    assert run.output.count("GB") >= 7


def test_what_zero_3_cannot_do_is_refused(folder, runner):
    run = runner.start(folder, zero_stage=3, finetune__l1=0.1)
    assert run.statuses == [1]
    assert "finetune.l1: 0.1 does not work at ZeRO-3" in run.output
    assert "Traceback" not in run.output
    assert not (folder / "models/finetuned").exists()


def test_tensorboard_and_profiler_show_the_run_and_do_not_change_it(folder, runner, plain):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    losses = runner.run(folder, finetune__tensorboard=True, finetune__profiler=True)
    assert losses == tiny.losses(plain)
    (logs,) = (folder / ".logs/finetune").iterdir()
    events = EventAccumulator(str(logs)).Reload()
    assert [e.value for e in events.Scalars("loss")] == pytest.approx(losses)
    assert len(events.Scalars("validation_macro_f1")) == round(tiny.history(folder)[-1]["epoch"])
    trace = json.loads((logs / "trace-0.json").read_text())
    assert any("addmm" in event.get("name", "") for event in trace["traceEvents"])
