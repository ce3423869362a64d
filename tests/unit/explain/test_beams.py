"""The tree of a search: what the search itself says, node by node."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest
import torch

from headway.decode.beam import Hypothesis
from headway.explain.beams import (
    DROPPED,
    FINISHED,
    KEPT,
    Node,
    SearchTree,
    draw_search,
    search_tree,
)


def test_tree_ends_in_the_result_of_the_search(transformer):
    tree = search_tree(transformer, "abcd", num_beams=3, max_steps=100)
    best = [node for node in tree.nodes if node.is_best]
    assert [node.step for node in best] == list(range(1, len(best) + 1))
    assert best[-1].total == pytest.approx(tree.best.log_probability)
    written = "".join(node.token for node in best if node.token != "</s>")
    assert written.replace("\u2581", " ") == transformer.tokenizer.decode(tree.best.ids)
    assert best[-1].state == (FINISHED if tree.best.is_finished else KEPT)
    assert transformer.translate(["abcd"]) == [transformer.tokenizer.decode(tree.best.ids)]


def test_totals_add_up_along_the_path(recurrent):
    tree = search_tree(recurrent, "abcd", num_beams=4, max_steps=6)
    for node in tree.nodes:
        before = 0.0 if node.parent is None else tree.nodes[node.parent].total
        assert node.total == pytest.approx(before + node.log_probability)
        assert node.log_probability <= 1e-6
        assert node.parent is None or tree.nodes[node.parent].step == node.step - 1
        assert node.parent is None or tree.nodes[node.parent].state == KEPT


def test_first_step_is_the_models_distribution(transformer):
    tree = search_tree(transformer, "abc", num_beams=2)
    body, tokenizer = transformer.body, transformer.tokenizer
    batch = transformer.task.collate(
        [transformer.task.encode([{"source": "abc", "target": "a"}], transformer.setting).examples],
        transformer.setting,
    )
    with torch.inference_mode():
        hidden = body.decode(batch.target, body.encode(batch.source))
        expected = body.logits(hidden)[0, 0].log_softmax(-1)
    for node in tree.nodes:
        if node.step == 1:
            assert node.log_probability == pytest.approx(
                float(expected[tokenizer.id_of(node.token.replace("\u2581", " "))]), abs=1e-4
            )


def test_each_step_keeps_as_many_as_there_are_beams(transformer):
    tree = search_tree(transformer, "abcd", num_beams=3, max_steps=5, num_dropped=2)
    for step in range(1, 6):
        states = [node.state for node in tree.nodes if node.step == step]
        assert states.count(KEPT) <= 3
        assert states.count(DROPPED) <= 2
    assert max(node.step for node in tree.nodes) == 5
    assert tree.num_steps >= 5


def test_greedy_search_is_a_line(recurrent):
    tree = search_tree(recurrent, "ab", num_beams=1)
    kept = [node for node in tree.nodes if node.state == KEPT]
    assert len({node.step for node in kept}) == len(kept)


def test_drawing_by_hand(hostile):
    nodes = (
        Node(step=1, token=hostile, parent=None, log_probability=-0.1, total=-0.1, state=KEPT,
             is_best=True),
        Node(step=1, token="\u4e2d", parent=None, log_probability=-3.0, total=-3.0, state=DROPPED),
        Node(step=2, token="</s>", parent=0, log_probability=-0.3, total=-0.4, state=FINISHED,
             is_best=True),
    )  # fmt: skip
    best = Hypothesis([5], -0.2, -0.4)
    drawn = draw_search(
        SearchTree(nodes=nodes, num_beams=1, length_penalty=1.0, best=best, num_steps=2)
    )
    ElementTree.fromstring(drawn)
    assert "<script" not in drawn
    assert "\u4e2d" in drawn
    assert "-0.40 \u2192 -0.20" in drawn
    assert drawn.count("stroke-dasharray=") == 1
    # Both edges of the way to the result.
    assert drawn.count('class="s0" stroke-width="3"') == 2


def test_an_empty_tree_is_drawn():
    best = Hypothesis([], 0.0, 0.0)
    drawn = draw_search(
        SearchTree(nodes=(), num_beams=1, length_penalty=1.0, best=best, num_steps=0)
    )
    assert ElementTree.fromstring(drawn).tag.endswith("svg")
    assert "stroke-dasharray=" not in drawn
