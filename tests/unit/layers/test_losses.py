"""Cross-entropy of a linear layer without all its logits: value, gradients, smoothing."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from headway.layers.losses import CrossEntropy, linear_cross_entropy

WIDTH, VOCAB = 6, 37
# Around one and two chunks of 512 rows.
ROWS = [1, 511, 512, 513, 1024, 1025]
NAMES = ("hidden", "weight", "bias")


def draw(num_rows: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    source = torch.Generator().manual_seed(num_rows)
    tensors = {
        "hidden": torch.randn(num_rows, WIDTH, generator=source),
        "weight": torch.randn(VOCAB, WIDTH, generator=source),
        "bias": torch.randn(VOCAB, generator=source),
    }
    labels = torch.randint(1, VOCAB, (num_rows,), generator=source)
    return {name: tensor.requires_grad_() for name, tensor in tensors.items()}, labels


def gradients(total: torch.Tensor, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return dict(zip(tensors, torch.autograd.grad(total, list(tensors.values())), strict=True))


def exact(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().double().requires_grad_() for name, tensor in tensors.items()}


def smoothed_by_hand(tensors, labels, smoothing: float, excluded: int) -> torch.Tensor:
    """Cross-entropy with the target distribution written out, class by class."""
    log_probs = F.linear(tensors["hidden"], tensors["weight"], tensors["bias"]).log_softmax(-1)
    target = torch.zeros_like(log_probs)
    for row, label in enumerate(labels.tolist()):
        for number in range(VOCAB):
            if number != excluded:
                target[row, number] = smoothing / (VOCAB - 1)
        target[row, label] += 1 - smoothing
    return -(target * log_probs).sum()


def assert_same_gradients(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]):
    for name in found:
        assert found[name].dtype == torch.float32
        scale = expected[name].abs().max().item()
        torch.testing.assert_close(
            found[name].double(), expected[name], rtol=1e-5, atol=2e-6 * scale
        )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("num_rows", ROWS)
def test_the_total_is_torchs_summed_cross_entropy(num_rows, smoothing):
    tensors, labels = draw(num_rows)
    logits = F.linear(*(tensors[name] for name in NAMES))
    expected = F.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)
    found = linear_cross_entropy(**tensors, labels=labels, label_smoothing=smoothing)
    torch.testing.assert_close(found.total, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("num_rows", ROWS)
def test_the_gradients_are_those_of_torchs_cross_entropy(num_rows, smoothing):
    tensors, labels = draw(num_rows)
    doubles = exact(tensors)
    logits = F.linear(*(doubles[name] for name in NAMES))
    expected = F.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)
    found = linear_cross_entropy(**tensors, labels=labels, label_smoothing=smoothing)
    assert_same_gradients(gradients(found.total, tensors), gradients(expected, doubles))


@pytest.mark.parametrize("num_rows", [5, 1030])
def test_an_excluded_class_gets_no_share_of_the_smoothing(num_rows):
    tensors, labels = draw(num_rows)
    doubles = exact(tensors)
    expected = smoothed_by_hand(doubles, labels, 0.1, excluded=0)
    found = linear_cross_entropy(**tensors, labels=labels, label_smoothing=0.1, excluded=0)
    assert found.total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert_same_gradients(gradients(found.total, tensors), gradients(expected, doubles))


def test_a_class_ruled_out_by_its_bias_leaves_value_and_gradients_exact():
    # How the Transformer keeps <pad> from being an answer.
    tensors, labels = draw(300)
    with torch.no_grad():
        tensors["bias"][0] = -10000.0
    doubles = exact(tensors)
    expected = smoothed_by_hand(doubles, labels, 0.1, excluded=0)
    found = linear_cross_entropy(**tensors, labels=labels, label_smoothing=0.1, excluded=0)
    assert found.total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert_same_gradients(gradients(found.total, tensors), gradients(expected, doubles))


def test_excluding_a_class_without_smoothing_changes_nothing():
    tensors, labels = draw(50)
    plain = linear_cross_entropy(**tensors, labels=labels)
    excluded = linear_cross_entropy(**tensors, labels=labels, excluded=0)
    assert torch.equal(plain.total, excluded.total)


@pytest.mark.parametrize("excluded", [None, 0])
@pytest.mark.parametrize("num_rows", [5, 1030])
def test_nll_is_the_loss_without_smoothing(num_rows, excluded):
    tensors, labels = draw(num_rows)
    smoothed = linear_cross_entropy(
        **tensors, labels=labels, label_smoothing=0.3, excluded=excluded
    )
    plain = linear_cross_entropy(**tensors, labels=labels)
    torch.testing.assert_close(smoothed.nll, plain.total, rtol=1e-6, atol=0)
    torch.testing.assert_close(plain.nll, plain.total, rtol=0, atol=0)


def test_no_gradient_flows_through_nll():
    tensors, labels = draw(5)
    assert not linear_cross_entropy(**tensors, labels=labels, label_smoothing=0.1).nll.requires_grad


def test_a_factor_on_the_loss_is_a_factor_on_the_gradients():
    tensors, labels = draw(5)
    once = gradients(linear_cross_entropy(**tensors, labels=labels).total, tensors)
    thrice = gradients(3 * linear_cross_entropy(**tensors, labels=labels).total, tensors)
    for name in NAMES:
        torch.testing.assert_close(thrice[name], 3 * once[name])


@pytest.mark.parametrize("frozen", NAMES)
def test_a_frozen_part_gets_no_gradient_and_the_others_the_same(frozen):
    tensors, labels = draw(5)
    expected = gradients(linear_cross_entropy(**tensors, labels=labels).total, tensors)
    tensors[frozen].requires_grad_(False)
    others = {name: tensor for name, tensor in tensors.items() if name != frozen}
    found = gradients(linear_cross_entropy(**tensors, labels=labels).total, others)
    for name, gradient in found.items():
        assert torch.equal(gradient, expected[name])


def test_any_split_of_the_rows_adds_up_to_the_same_gradients():
    tensors, labels = draw(1500)
    whole = gradients(linear_cross_entropy(**tensors, labels=labels).total, tensors)
    parts: list[CrossEntropy] = []
    for rows in (slice(0, 200), slice(200, 1500)):
        part = {**tensors, "hidden": tensors["hidden"][rows]}
        parts.append(linear_cross_entropy(**part, labels=labels[rows], label_smoothing=0.0))
    split = gradients(parts[0].total + parts[1].total, tensors)
    for name in NAMES:
        torch.testing.assert_close(split[name], whole[name], rtol=1e-4, atol=1e-4)


def test_no_rows_are_a_loss_of_zero_with_gradients_of_zero():
    tensors, labels = draw(1)
    tensors["hidden"] = tensors["hidden"].detach()[:0].requires_grad_()
    found = linear_cross_entropy(**tensors, labels=labels[:0], label_smoothing=0.1)
    assert found.total.item() == found.nll.item() == 0
    assert not any(gradient.any() for gradient in gradients(found.total, tensors).values())


def test_a_second_pass_back_is_the_first_again_or_refused():
    tensors, labels = draw(5)
    total = 3 * linear_cross_entropy(**tensors, labels=labels, label_smoothing=0.1).total
    parts = list(tensors.values())
    first = [gradient.clone() for gradient in torch.autograd.grad(total, parts, retain_graph=True)]
    try:
        second = torch.autograd.grad(total, parts)
    except RuntimeError:
        return
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("excluded", [None, 0])
def test_half_precision_states_give_the_loss_and_gradients_but_for_rounding(excluded):
    tensors, labels = draw(1030)
    tensors["hidden"] = tensors["hidden"].detach().bfloat16().requires_grad_()
    doubles = exact(tensors)
    if excluded is None:
        logits = F.linear(*(doubles[name] for name in NAMES))
        expected = F.cross_entropy(logits, labels, reduction="sum", label_smoothing=0.1)
    else:
        expected = smoothed_by_hand(doubles, labels, 0.1, excluded)
    found = linear_cross_entropy(**tensors, labels=labels, label_smoothing=0.1, excluded=excluded)
    assert found.total.dtype == torch.float32
    assert found.total.item() == pytest.approx(expected.item(), rel=0.01)
    wanted = gradients(expected, doubles)
    for name, gradient in gradients(found.total, tensors).items():
        assert gradient.dtype == tensors[name].dtype
        error = (gradient.double() - wanted[name]).norm() / wanted[name].norm()
        assert error < 0.02


def test_measuring_a_loss_without_gradients_costs_one_product_and_not_three():
    tensors, labels = draw(64)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        linear_cross_entropy(**tensors, labels=labels)
    assert counter.get_total_flops() == 2 * 64 * WIDTH * VOCAB


def test_the_loss_shown_in_half_precision_is_as_exact_as_its_logits():
    torch.manual_seed(0)
    hidden = torch.randn(700, 16).bfloat16().requires_grad_()
    weight, bias = torch.randn(300, 16).bfloat16().float(), torch.zeros(300)
    labels = torch.randint(300, (700,))
    shown = linear_cross_entropy(hidden, weight, bias, labels).nll
    logits = (hidden.detach() @ weight.bfloat16().t()).double()
    exact = F.cross_entropy(logits, labels, reduction="sum")
    assert float(shown) == pytest.approx(float(exact), rel=2e-4)
