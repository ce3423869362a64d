"""The optimizer's groups, and clipping as part of the update."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from headway.sections import Training
from headway.train.groups import clip_in_step, make_groups, make_optimizer


@pytest.mark.parametrize("longest", [0.0, 0.1, 1.0, 1e6])
def test_clipping_in_the_update_is_clipping_before_it(longest):
    updated = []
    for in_step in (True, False):
        torch.manual_seed(0)
        modules = nn.ModuleDict({"body": nn.Sequential(nn.Linear(7, 33), nn.Linear(33, 5))})
        options = Training(weight_decay=0.01)
        optimizer = make_optimizer(modules, make_groups(modules, options), options)
        for group in optimizer.param_groups:
            group["lr"] = 1e-2
        for _ in range(4):
            modules["body"](torch.randn(6, 7)).pow(3).sum().backward()
            gradients = [p.grad for p in modules.parameters() if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(gradients)
            if in_step:
                clip_in_step(optimizer, float(norm), longest)
            elif longest:
                torch.nn.utils.clip_grads_with_norm_(modules.parameters(), longest, norm)
            optimizer.step()
            optimizer.zero_grad()
        updated.append(torch.cat([p.detach().flatten() for p in modules.parameters()]))
    torch.testing.assert_close(*updated, rtol=0, atol=1e-6)


def test_a_short_gradient_after_a_long_one_is_left_as_it_is():
    weight = nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=True)
    for length in (100.0, 0.5):
        clip_in_step(optimizer, length, 1.0)
        weight.grad = torch.tensor([length, 0.0, 0.0])
        optimizer.step()
    assert weight.grad is not None
    assert weight.grad[0] == 0.5
