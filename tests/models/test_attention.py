"""Dropout, attention and bf16 for a CPU do what torch's and transformers' own do."""

import copy

import pytest
import torch
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertConfig,
    ElectraConfig,
    GPT2Config,
    RobertaConfig,
)

from cleantune.models import attention, first_token
from cleantune.training import acceleration

TINY = {
    "bert": BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                       intermediate_size=32, pad_token_id=0),
    "gpt2": GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, pad_token_id=0,
                       bos_token_id=1, eos_token_id=1),
}  # fmt: skip

BERT_LIKE = {
    kind: config(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                 intermediate_size=32, pad_token_id=0)
    for kind, config in (("bert", BertConfig), ("electra", ElectraConfig), ("roberta", RobertaConfig))
}  # fmt: skip


def model(kind, implementation="eager"):
    torch.manual_seed(0)
    config = copy.deepcopy((TINY | BERT_LIKE)[kind])
    return AutoModelForSequenceClassification.from_config(
        config, attn_implementation=implementation
    )


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_dropout_drops_its_share_and_keeps_the_mean(share):
    torch.manual_seed(0)
    values = torch.ones(1001, 1003, requires_grad=True)
    dropout = attention.Dropout(share)
    kept = dropout(values)
    assert (kept == 0).float().mean().item() == pytest.approx(share, abs=2e-3)
    assert kept.mean().item() == pytest.approx(1, abs=3e-3)
    kept.sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad, kept.detach()), "the gradient passes where the value passed"
    assert torch.equal(dropout.eval()(values), values)


def test_dropout_follows_the_seed():
    values = torch.ones(1000)
    drawn = [(torch.manual_seed(seed), attention.dropped(values, 0.3))[1] for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU keeps torch's own")
@pytest.mark.parametrize("kind", sorted(TINY))
def test_attention_gives_the_scores_and_gradients_of_eager_attention(kind):
    theirs, ours = model(kind).eval(), model(kind).eval()
    ours.load_state_dict(theirs.state_dict())
    acceleration.speed_up(ours)
    assert ours.config._attn_implementation == attention.ATTENTION
    ids = torch.randint(2, 50, (3, 9))
    mask = torch.ones_like(ids)
    mask[0, 5:] = mask[2, 2:] = 0
    ids[mask == 0] = 0
    logits = [m(input_ids=ids, attention_mask=mask).logits for m in (theirs, ours)]
    torch.testing.assert_close(logits[1], logits[0])
    for scores in logits:
        scores.logsumexp(1).sum().backward()
    for a, b in zip(theirs.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad)
    ids[mask == 0] = 7  # what stands in the padding is not looked at
    if kind == "bert":  # gpt2 finds its last token by the padding's id
        torch.testing.assert_close(ours(input_ids=ids, attention_mask=mask).logits, logits[1])


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", sorted(BERT_LIKE))
def test_the_last_layer_for_the_first_token_alone_gives_the_whole_models_scores_and_gradients(
    kind, implementation
):
    whole, ours = model(kind, implementation).eval(), model(kind, implementation).eval()
    first_token.answer_from_first_token(ours)
    ours = copy.deepcopy(ours)
    computed = []
    ours.base_model.encoder.layer[-1].register_forward_hook(
        lambda _layer, _given, out: computed.append(out.shape)
    )
    ids = torch.randint(2, 50, (3, 9))
    mask = torch.ones_like(ids)
    mask[0, 5:] = mask[2, 2:] = 0
    for given in ({"attention_mask": mask}, {}):
        scores = [m(input_ids=ids, **given).logits for m in (whole, ours)]
        torch.testing.assert_close(scores[1], scores[0])
        for each in scores:
            each.logsumexp(1).sum().backward()
    assert computed == [(3, 1, 16)] * 2
    for a, b in zip(whole.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad)


def test_who_reads_every_token_gets_every_token():
    guessing = AutoModelForMaskedLM.from_config(copy.deepcopy(TINY["bert"])).eval()
    ids = torch.randint(2, 50, (3, 9))
    before = guessing(input_ids=ids).logits
    first_token.answer_from_first_token(guessing)
    assert torch.equal(guessing(input_ids=ids).logits, before)
    last = model("gpt2").eval()
    before = last(input_ids=ids).logits
    first_token.answer_from_first_token(last)
    assert torch.equal(last(input_ids=ids).logits, before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU keeps torch's own")
def test_training_uses_our_dropout_everywhere_and_a_saved_model_does_not_know(tmp_path):
    ours = model("bert").train()
    acceleration.speed_up(ours)
    kinds = {type(m) for m in ours.modules() if isinstance(m, torch.nn.Dropout)}
    assert kinds == {attention.Dropout}
    ours.save_pretrained(tmp_path)
    assert attention.ATTENTION not in (tmp_path / "config.json").read_text()


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_plain_kernels_leave_the_model_as_transformers_has_it(kind):
    theirs, ours = model(kind), model(kind)
    acceleration.speed_up(ours, kernels="plain")
    assert [type(m) for m in ours.modules()] == [type(m) for m in theirs.modules()]
    assert ours.config._attn_implementation == theirs.config._attn_implementation


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU's norms are in fp32")
def test_bf16_holds_between_the_products_and_weights_and_gradients_stay_in_fp32():
    plain, half = model("bert").eval(), model("bert").eval()
    half.load_state_dict(plain.state_dict())
    acceleration.autocast_to_bf16(half)
    passed = []
    for layer in half.bert.encoder.layer:
        layer.register_forward_hook(lambda _layer, given, out: passed.extend([given[0], out]))
    ids = torch.randint(2, 50, (3, 9))
    logits = [m(input_ids=ids).logits for m in (plain, half)]
    assert {vectors.dtype for vectors in passed} == {torch.bfloat16}
    torch.testing.assert_close(logits[1].float(), logits[0], atol=0.01, rtol=0.02)
    logits[1].sum().backward()
    assert {p.dtype for p in half.parameters()} == {torch.float32}
    assert {p.grad.dtype for p in half.parameters()} == {torch.float32}
