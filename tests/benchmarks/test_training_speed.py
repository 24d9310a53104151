"""benchmarks.training_speed: the work it counts, and what becomes of a contender that fails."""

import subprocess
import sys

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from benchmarks import contenders, training_speed
from cleantune.errors import UserError
from cleantune.training import acceleration, optimizers

LAYER = 4 * 8 * 8 + 2 * 8 * 24  # query, key, value, output; the two of the feed-forward part


@pytest.fixture
def model():
    return BertForSequenceClassification(
        BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=2, num_attention_heads=1,
                   intermediate_size=24)
    )  # fmt: skip


def test_operations_are_what_a_count_by_hand_says(model):
    assert contenders.operations(model, 1 / 10) == 6 * 2 * LAYER
    acceleration.speed_up(
        model
    )  # the last layer: keys and values of all tokens, the rest of one in ten
    last = 2 * 8 * 8 + (LAYER - 2 * 8 * 8) / 10
    assert contenders.operations(model, 1 / 10) == pytest.approx(6 * (LAYER + last))
    # forward alone is a third; what reads from the fixed part hands no gradient down to it
    optimizers.freeze(model, True, 0)
    assert contenders.operations(model, 1 / 10) == pytest.approx(6 * (LAYER + last) - 2 * 3 * 8 * 8)
    optimizers.freeze(model, False, 1)
    handed = 2 * (2 + 1 / 10) * 8 * 8
    assert contenders.operations(model, 1 / 10) == pytest.approx(2 * LAYER + 6 * last - handed)


def test_operations_count_what_zero_3_has_cut_up(model):
    whole = contenders.operations(model, 1.0)
    for parameter in model.parameters():
        parameter.ds_shape = parameter.shape
        parameter.data = torch.empty(0)
    assert contenders.operations(model, 1.0) == whole > 0


def test_a_contender_that_ends_early_is_named():
    with subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as worker:  # fmt: skip
        worker.wait()
        with pytest.raises(UserError, match="'loop' ended early"):
            training_speed.ask("loop", worker)
        worker.communicate()
