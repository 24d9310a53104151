"""Which weights learn, how fast, and by which rule, on models small enough to build in no time."""

from typing import Any

import pytest
import torch
import transformers
from torch import nn

from cleantune.errors import UserError
from cleantune.params.sections import Lora
from cleantune.training import lora, optimizers, training_arguments


@pytest.fixture
def bert():
    torch.manual_seed(0)
    return transformers.BertForSequenceClassification(
        transformers.BertConfig(
            vocab_size=20, hidden_size=8, num_hidden_layers=3, num_attention_heads=2,
            intermediate_size=16, max_position_embeddings=16, id2label={0: "a", 1: "b", 2: "c"},
        )
    )  # fmt: skip


def options(**changes):
    return training_arguments.PLAIN.model_copy(update=changes)


def part_of(name: str) -> str:
    """Return which part of a BERT a parameter is of."""
    if ".embeddings." in name:
        return "embeddings"
    return f"block {name.split('.')[3]}" if ".layer." in name else "head"


def settings(model, key, *arguments):
    """Return the setting of each parameter's group, by its name."""
    names = {id(p): n for n, p in model.named_parameters()}
    found = [(names[id(p)], group[key]) for group in optimizers.groups(model, *arguments)
             for p in group["params"]]  # fmt: skip
    assert len(dict(found)) == len(found), "each parameter is in one group"
    return dict(found)


# ---- depths

SMALL: dict[str, Any] = {"vocab_size": 20, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 8,
         "intermediate_size": 16, "max_position_embeddings": 16}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "config", "embeddings", "layers", "head"),
    [
        ("GPT2", {"vocab_size": 20, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 16},
         ("wte", "wpe"), ("h.{}.",), ("ln_f", "score")),
        ("Llama", SMALL, ("embed_tokens",), ("layers.{}.",), ("model.norm", "score")),
        ("DebertaV2", SMALL | {"relative_attention": True, "norm_rel_ebd": "layer_norm",
                               "pos_att_type": ["p2c", "c2p"], "position_buckets": 4},
         ("deberta.embeddings", "rel_embeddings", "encoder.LayerNorm"), ("layer.{}.",),
         ("pooler", "classifier")),
        ("Electra", SMALL | {"embedding_size": 4}, ("electra.embeddings", "embeddings_project"),
         ("layer.{}.",), ("classifier",)),
        ("MPNet", SMALL, ("mpnet.embeddings", "relative_attention_bias"), ("layer.{}.",),
         ("classifier",)),
        ("XLM", {"vocab_size": 20, "emb_dim": 8, "n_layers": 2, "n_heads": 2,
                 "max_position_embeddings": 16},
         ("embeddings", "layer_norm_emb"),
         ("attentions.{}.", "ffns.{}.", "layer_norm1.{}.", "layer_norm2.{}."), ("summary",)),
    ],
)  # fmt: skip
def test_the_depth_of_a_parameter_is_that_of_its_part(name, config, embeddings, layers, head):
    settings = getattr(transformers, f"{name}Config")(**config)
    model = getattr(transformers, f"{name}ForSequenceClassification")(settings)
    parts = [embeddings, *(tuple(x.format(i) for x in layers) for i in range(2)), head]
    found = optimizers.depths(model)
    assert set(found) == {name for name, _ in model.named_parameters()}
    for parameter, depth in found.items():
        assert any(part in parameter for part in parts[depth]), (parameter, depth)
    assert set(found.values()) == {0, 1, 2, 3}
    assert optimizers.count_layers(model) == 2


def test_adapters_have_the_depth_of_what_they_adapt(bert):
    plain = optimizers.depths(bert)
    adapted = optimizers.depths(lora.adapt(bert, Lora(rank=2, alpha=4)))
    for name, depth in adapted.items():
        if "lora_" in name:
            at = name.removeprefix("base_model.model.").partition(".lora_")[0]
            assert depth == plain[f"{at}.weight"], name
    assert {depth for name, depth in adapted.items() if "modules_to_save" in name} == {4}


class Body(nn.Module):
    """As much of a model as the search for its layers looks at."""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)

    @property
    def base_model(self):
        return self


def blocks(count, size):
    return nn.ModuleList(nn.Linear(size, size) for _ in range(count))


def test_the_layers_are_the_largest_list_and_those_as_long():
    assert optimizers.count_layers(Body(a=blocks(3, 2), b=blocks(2, 9))) == 2
    assert optimizers.count_layers(Body(a=blocks(2, 9), inside=Body(b=blocks(4, 8)))) == 4
    nested = nn.ModuleList([Body(experts=blocks(8, 9))])
    assert optimizers.count_layers(Body(layers=nested)) == 1, "lists within layers are no layers"
    first, second, other = blocks(2, 9), blocks(2, 1), blocks(3, 1)
    found = optimizers._layers(Body(a=second, b=other, c=first))
    assert [id(x) for x in found] == [id(first), id(second)]


def test_what_is_beside_the_input_embeddings_is_as_deep_wherever_the_model_keeps_them():
    words = nn.Embedding(4, 2)
    beside = Body(words=words, norm=nn.LayerNorm(2))
    body: Any = Body(layers=blocks(2, 2), beside=beside, norm=nn.LayerNorm(2))
    body.get_input_embeddings = lambda: words
    found = {name: depth for name, depth in optimizers.depths(body).items() if "layers" not in name}
    assert found == {"beside.words.weight": 0, "beside.norm.weight": 0, "beside.norm.bias": 0,
                     "norm.weight": 3, "norm.bias": 3}  # fmt: skip


def test_zero_3_leaves_pieces_and_the_whole_size_beside():
    large, small = blocks(2, 1), blocks(3, 4)
    for parameter in large.parameters():
        vars(parameter)["ds_numel"] = 1000
    assert optimizers.count_layers(Body(a=large, b=small)) == 2


def test_a_model_without_a_list_of_layers_is_refused():
    with pytest.raises(UserError) as said:
        optimizers.count_layers(Body(a=nn.Linear(2, 2)))
    assert str(said.value) == (
        "finetune: Body keeps no list of layers. Set layer_lr_decay to 1, freeze_embeddings to false, "
        "freeze_layers to 0 and lora to null."
    )


# ---- rates


def test_each_part_learns_slower_than_the_one_above_it_by_the_same_factor(bert):
    rates = settings(bert, "lr", 0.8, 0.0, 0.5)
    assert set(rates) == {name for name, _ in bert.named_parameters()}
    expected = {"head": 0.8, "block 2": 0.4, "block 1": 0.2, "block 0": 0.1, "embeddings": 0.05}
    assert rates == {name: pytest.approx(expected[part_of(name)]) for name in rates}


def test_without_a_decay_of_the_rate_all_learn_alike(bert):
    assert set(settings(bert, "lr", 0.8, 0.1, 1.0).values()) == {0.8}
    assert len(optimizers.groups(bert, 0.8, 0.1, 1.0)) == 2


def test_the_groups_come_in_the_same_order_lowest_first(bert):
    """An optimizer's state is saved by position."""
    made = optimizers.groups(bert, 1.0, 0.1, 0.5)
    assert [(g["lr"], g["weight_decay"]) for g in made] == [
        (0.5**depth, decay) for depth in (4, 3, 2, 1, 0) for decay in (0.0, 0.1)
    ]
    assert [g["weight_decay"] for g in optimizers.groups(bert, 1.0, 0.1, 1.0)] == [0.0, 0.1]


def test_what_does_not_learn_is_in_no_group(bert):
    for name, parameter in bert.named_parameters():
        parameter.requires_grad_(part_of(name) == "head")
    rates = settings(bert, "lr", 0.8, 0.1, 0.5)
    assert {part_of(name) for name in rates} == {"head"}
    assert set(rates.values()) == {0.8}


# ---- decay of weights


def test_weights_decay_and_biases_and_norms_do_not(bert):
    decays = settings(bert, "weight_decay", 1.0, 0.3, 0.5)
    spared = {name for name, decay in decays.items() if decay == 0}
    assert set(decays.values()) == {0.0, 0.3}
    assert spared == {n for n in decays if n.endswith(".bias") or "LayerNorm" in n}


@pytest.mark.parametrize(
    ("name", "shape", "decays"),
    [
        ("dense.weight", (2, 2), True),
        ("conv.weight", (2, 2, 2), True),
        ("dense.weight", (2,), False),  # whatever it is, it only scales
        ("LayerNorm.weight", (2, 2), False),
        ("relative_attention_bias.weight", (2, 2), False),
        ("scalar", (), False),
    ],
)
def test_weight_decay_goes_by_name_and_shape(name, shape, decays):
    parameter = nn.Parameter(torch.zeros(shape))
    assert optimizers.decays(name, parameter) is decays
    pieces = nn.Parameter(torch.zeros(3))  # as ZeRO-3 leaves them
    vars(pieces)["ds_shape"] = shape
    assert optimizers.decays(name, pieces) is decays


def test_l1_is_the_sum_of_the_absolute_weights_that_decay_and_learn():
    model = nn.Sequential()
    model.dense = nn.Linear(2, 2)
    model.frozen = nn.Linear(2, 2)
    model.norm = nn.LayerNorm(2)
    model.dense.weight.data = torch.tensor([[1.0, -2.0], [3.0, -4.0]])
    model.frozen.weight.requires_grad_(False)
    penalty = optimizers.l1(model)
    assert penalty.item() == 10
    penalty.backward()
    torch.testing.assert_close(model.dense.weight.grad, torch.tensor([[1.0, -1], [1, -1]]))


# ---- the rule


def test_sgd_has_the_rate_and_the_momentum_asked_for(bert):
    made = optimizers.build(bert, 0.2, options(optimizer="sgd", momentum=0.7, weight_decay=0.1))
    assert type(made) is torch.optim.SGD
    assert (made.defaults["lr"], made.defaults["momentum"]) == (0.2, 0.7)
    assert made.defaults["fused"] is True, "a step is one kernel, not one for each weight"
    assert {(g["lr"], g["weight_decay"]) for g in made.param_groups} == {(0.2, 0.0), (0.2, 0.1)}


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_adam_is_adam_and_adamw_adamw(bert, name, kind):
    made = optimizers.build(
        bert, 0.2, options(optimizer=name, weight_decay=0.1, layer_lr_decay=0.5)
    )
    assert type(made) is kind
    assert made.defaults["lr"] == 0.2
    assert made.defaults["fused"] is True
    assert {g["lr"] for g in made.param_groups} == {0.2 * 0.5**depth for depth in range(5)}
    assert {g["weight_decay"] for g in made.param_groups} == {0.0, 0.1}


# ---- what does not learn


def learning(model) -> set[str]:
    return {part_of(name) for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(
    ("embeddings", "layers", "left"),
    [
        (False, 0, {"embeddings", "block 0", "block 1", "block 2", "head"}),
        (True, 0, {"block 0", "block 1", "block 2", "head"}),
        (False, 1, {"block 1", "block 2", "head"}),
        (True, 2, {"block 2", "head"}),
        (True, 3, {"head"}),
    ],
)
def test_freezing_goes_from_the_embeddings_up(bert, embeddings, layers, left):
    optimizers.freeze(bert, embeddings, layers)
    assert learning(bert) == left
    frozen = {part_of(name) for name, p in bert.named_parameters() if not p.requires_grad}
    assert not frozen & left, "a part is frozen whole"


def test_freezing_more_layers_than_there_are_is_refused(bert):
    with pytest.raises(
        UserError, match=r"finetune\.freeze_layers: 4 is more than the model's 3 layers"
    ):
        optimizers.freeze(bert, False, 4)
    assert learning(bert) == {"embeddings", "block 0", "block 1", "block 2", "head"}


def test_zero_3_refuses_what_needs_whole_weights():
    with pytest.raises(UserError) as refusal:
        optimizers.refuse_l1_at_zero_3(3, options(l1=0.5))
    said = str(refusal.value)
    assert said.startswith("finetune.l1: 0.5 does not work at ZeRO-3")
    assert said.endswith("Set zero_stage to 2 or lower, or finetune.l1 to 0.")
    optimizers.refuse_l1_at_zero_3(2, options(l1=0.5))
    optimizers.refuse_l1_at_zero_3(3, options())


# ---- dropout


def with_dropout(**changes):
    usual = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, **usual | changes,
    )  # fmt: skip
    return transformers.BertForSequenceClassification(config)


def test_r_drop_is_refused_where_two_passes_are_the_same():
    with pytest.raises(UserError) as said:
        optimizers.refuse_r_drop_without_dropout(with_dropout(), options(r_drop=0.5))
    assert str(said.value) == (
        "finetune.r_drop: 0.5 compares two passes with different dropout, and this model has none: "
        "both would be the same, at twice the time. Set finetune.dropout to 0.1, or finetune.r_drop "
        "to 0."
    )
    optimizers.refuse_r_drop_without_dropout(with_dropout(), options())
    for model in (
        with_dropout(hidden_dropout_prob=0.1),
        with_dropout(attention_probs_dropout_prob=0.1),
        with_dropout(classifier_dropout=0.1),
        nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1)),
        nn.Sequential(nn.AlphaDropout(0.1)),
    ):
        optimizers.refuse_r_drop_without_dropout(model, options(r_drop=0.5))


def test_what_a_module_only_calls_p_is_no_dropout():
    model: Any = nn.Sequential(nn.PairwiseDistance(2.0))
    model.drop_path = 0.0
    assert vars(model[0])["norm"] == 2.0
    model[0].p = 2.0
    model[0].dropout = 1  # a number of layers, say
    with pytest.raises(UserError):
        optimizers.refuse_r_drop_without_dropout(model, options(r_drop=0.5))
    model.attention_dropout = 0.1  # used as a function's argument
    optimizers.refuse_r_drop_without_dropout(model, options(r_drop=0.5))


@pytest.mark.parametrize(
    "name",
    ["Albert", "Bert", "DebertaV2", "DistilBert", "Electra", "Funnel", "GPT2", "GPTNeoX", "Llama",
     "ModernBert", "MPNet", "Roberta", "XLNet"],
)  # fmt: skip
def test_every_kind_of_dropout_is_set(name):
    config = getattr(transformers, f"{name}Config")()
    usual = config.to_dict()
    optimizers.set_dropout(config, None)
    assert config.to_dict() == usual
    optimizers.set_dropout(config, 0.3)
    changed = {key: value for key, value in config.to_dict().items() if value != usual[key]}
    assert changed == {k: 0.3 for k, v in usual.items() if "drop" in k and v is not None}
    assert changed
    optimizers.set_dropout(config, 0.0)
    assert {config.to_dict()[key] for key in changed} == {0.0}


def test_leaving_out_whole_layers_is_not_dropout():
    config = transformers.OPTConfig(layerdrop=0.25)
    optimizers.set_dropout(config, 0.5)
    assert (config.dropout, config.layerdrop) == (0.5, 0.25)
