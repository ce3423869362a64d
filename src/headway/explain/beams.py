"""A beam search as a tree: what it kept, what it dropped, what it chose."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headway.decode.beam import BeamStep, Hypothesis
from headway.explain.alignment import check_writes_text, evaluating, show_tokens
from headway.explain.svg import picture, rectangle, shorten, show_spaces, text, width_of
from headway.tasks._model import Model

KEPT, DROPPED, FINISHED = "kept", "dropped", "finished"
# Boxes are as wide as their tokens need, within these bounds.
_NARROWEST, _WIDEST, _TALL = 66.0, 84.0, 32.0
_GAP, _DOWN = 22.0, 42.0
_TOP, _LEFT = 24.0, 48.0
# Classes of a box's frame and of its token.
_KINDS = {KEPT: ("frame", "strong"), DROPPED: ("rule", "soft"), FINISHED: ("s2", "good")}


@dataclass(frozen=True, kw_only=True)
class Node:
    """One token that a search looked at.

    Args:
        step: From 1.
        token: As people read it.
        parent: Index of the node that it continues; None where it begins a result.
        log_probability: Of the token after its parent, in nats.
        total: Sum over the path, in nats.
        state: "kept", "dropped" or "finished".
        is_best: It is on the way to the best result.
    """

    step: int
    token: str
    parent: int | None
    log_probability: float
    total: float
    state: str
    is_best: bool = False


@dataclass(frozen=True, kw_only=True)
class SearchTree:
    """The first steps of a beam search.

    Args:
        nodes: Ordered by step, then by score, best first.
        num_beams: Beams of the search.
        length_penalty: Exponent of the length by which a result's sum is divided.
        best: The result of the whole search.
        num_steps: Steps of the whole search; the tree may have fewer.
    """

    nodes: tuple[Node, ...]
    num_beams: int
    length_penalty: float
    best: Hypothesis
    num_steps: int


def search_tree(
    model: Model, source: str, *, num_beams: int = 5, max_steps: int = 12, num_dropped: int = 3
) -> SearchTree:
    """Run a beam search for one source and keep what it looked at.

    Args:
        model: Writes text from text.
        source: Source text.
        num_beams: Beams of the search.
        max_steps: Steps that the tree shows; the search itself runs to its end.
        num_dropped: Dropped candidates shown of each step, the best ones.
    Raises:
        RequestError: if the model does not write text from text.
    """
    check_writes_text(model)
    task = dataclasses.replace(model.task, num_beams=num_beams, num_best=1)  # pyright: ignore
    example = task.encode([{task.inputs[0]: source}], model.setting).examples[0]
    steps: list[BeamStep] = []
    with evaluating(model.body):
        found = task.search(model.body, [example.input_ids], model.setting, observer=steps.append)
    best = found[0][0]
    path = [*best.ids, model.tokenizer.end_id] if best.is_finished else best.ids
    return SearchTree(
        nodes=tuple(_grow(model, steps[:max_steps], path, num_dropped)),
        num_beams=num_beams,
        length_penalty=task.length_penalty,
        best=best,
        num_steps=len(steps),
    )


def _grow(
    model: Model, steps: Sequence[BeamStep], path: Sequence[int], num_dropped: int
) -> list[Node]:
    """Turn the steps of a search for one row into nodes.

    Args:
        model: For its vocabulary.
        steps: Of the search.
        path: Token ids of the best result.
        num_dropped: Dropped candidates kept of each step.
    """
    nodes: list[Node] = []
    # Node of each live beam; None is the start sign.
    beams: list[int | None] = [None]
    for number, step in enumerate(steps, 1):
        live: list[int | None] = []
        room = num_dropped
        columns = (step.parents, step.tokens, step.scores, step.kept, step.finished)
        candidates = zip(*(column[0].tolist() for column in columns), strict=True)
        for beam, token_id, total, kept, finished in candidates:
            if total == -float("inf"):
                continue
            state = KEPT if kept else FINISHED if finished else DROPPED
            room -= state == DROPPED
            if state == DROPPED and room < 0:
                continue
            if kept:
                live.append(len(nodes))
            parent = beams[beam]
            before = None if parent is None else nodes[parent]
            is_next = number <= len(path) and path[number - 1] == token_id
            node = Node(
                step=number,
                token=show_tokens(model.tokenizer, [token_id])[0],
                parent=parent,
                log_probability=total - (before.total if before else 0.0),
                total=total,
                state=state,
                is_best=is_next and state != DROPPED and (before is None or before.is_best),
            )
            nodes.append(node)
        beams = live
    return nodes


def draw_search(tree: SearchTree) -> str:
    """Draw a search from left to right: a column for each step, the best candidate on top."""
    nodes = tree.nodes
    needed = max((width_of(show_spaces(node.token)) * 12 + 12 for node in nodes), default=0)
    width = min(_WIDEST, max(_NARROWEST, needed))
    num_steps = max((node.step for node in nodes), default=0)
    lefts = [_LEFT + step * (width + _GAP) for step in range(num_steps)]
    rows = _rank(nodes)
    corners = [(lefts[n.step - 1], _TOP + rows[place] * _DOWN) for place, n in enumerate(nodes)]
    parts = [
        text(left + width / 2, 14, step, anchor="middle", size=10.5, kind="soft")
        for step, left in enumerate(lefts, 1)
    ]
    # Edges of the best path come last, so that they lie on top.
    for place in sorted(range(len(nodes)), key=lambda place: nodes[place].is_best):
        parent = nodes[place].parent
        # The start sign is a dot at the left.
        x, y = (20.0 - width, _TOP) if parent is None else corners[parent]
        parts.append(_edge(nodes[place], (x + width, y), corners[place]))
    parts.append(f'<circle cx="14" cy="{_TOP + _TALL / 2:.1f}" r="6" class="c0"/>')
    for node, corner in zip(nodes, corners, strict=True):
        parts += _box(node, corner, width, length_penalty=tree.length_penalty)
    height = _TOP + (max(rows.values(), default=0) + 1) * _DOWN
    whole = _LEFT + num_steps * (width + _GAP)
    return picture(whole, height, parts, label="Tree of a beam search")


def _edge(node: Node, start: tuple[float, float], end: tuple[float, float]) -> str:
    (from_x, from_y), (x, y) = start, end
    from_y, y, middle = from_y + _TALL / 2, y + _TALL / 2, (from_x + x) / 2
    kind = "s0" if node.is_best else "grey"
    style = 'stroke-width="3"' if node.is_best else 'stroke-width="1.2"'
    if node.state == DROPPED:
        style = 'stroke-width="1" stroke-dasharray="2 3"'
    return (
        f'<path d="M{from_x:.1f} {from_y:.1f}C{middle:.1f} {from_y:.1f} {middle:.1f} {y:.1f} '
        f'{x:.1f} {y:.1f}" fill="none" class="{kind}" {style}/>'
    )


def _box(
    node: Node, corner: tuple[float, float], width: float, *, length_penalty: float
) -> list[str]:
    title = f"{node.token}: {node.log_probability:.3f} here, {node.total:.3f} in all; {node.state}"
    numbers = f"{node.total:.2f}"
    if node.state == FINISHED:
        score = node.total / node.step**length_penalty
        title += f", score {score:.3f}"
        numbers += f" \u2192 {score:.2f}"
    token = shorten(show_spaces(node.token), (width - 6) / 12)
    x, y = corner
    middle, size = x + width / 2, 9 if node.state == FINISHED else 10
    frame, kind = _KINDS[node.state]
    if node.is_best and node.state == KEPT:
        frame = "s0"
    return [
        rectangle(x, y, width, _TALL, kind=f"paper {frame}", title=title, rounded=6),
        text(middle, y + 14, token, anchor="middle", size=12, kind=kind),
        text(middle, y + 27, numbers, anchor="middle", size=size, kind="soft"),
    ]


def _rank(nodes: Sequence[Node]) -> Mapping[int, int]:
    """Give each node a row in its column: results and beams first, dropped candidates below."""
    rows: dict[int, int] = {}
    for step in {node.step for node in nodes}:
        own = [place for place, node in enumerate(nodes) if node.step == step]
        own.sort(key=lambda place: nodes[place].state == DROPPED)
        rows |= {place: row for row, place in enumerate(own)}
    return rows
