"""Networks as shapes alone: nothing is drawn, and nothing is left out outside of it."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from encoders import make_encoder
from headway.layers.shapes import shapes_only


@pytest.mark.parametrize("architecture", ["bert", "roberta", "albert", "distilbert"])
def test_a_network_has_the_names_and_shapes_that_it_has_with_weights(architecture):
    body = make_encoder(architecture).body
    with shapes_only():
        bare = type(body)(body.config, body.parts)
    found, wanted = (
        {name: value.shape for name, value in one.state_dict().items()} for one in (bare, body)
    )
    assert found == wanted
    assert all(value.is_meta for value in bare.parameters())


def test_another_thread_draws_its_weights_meanwhile_and_so_does_what_comes_after():
    made: list[nn.Linear] = []
    with shapes_only():
        assert nn.Linear(3, 3).weight.is_meta
        thread = threading.Thread(target=lambda: made.append(nn.Linear(3, 3)))
        thread.start()
        thread.join()
    made.append(nn.Linear(3, 3))
    for layer in made:
        assert not layer.weight.is_meta
        # Drawn as torch draws them, not what lay in memory.
        assert 0 < layer.weight.abs().max() <= 3**-0.5
        assert len(torch.unique(layer.weight)) == 9


def test_what_fails_inside_leaves_nothing_behind():
    with pytest.raises(ZeroDivisionError), shapes_only():
        _ = 1 / 0
    assert not nn.Linear(2, 2).weight.is_meta
