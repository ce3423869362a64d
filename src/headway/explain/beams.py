"""A beam search as a tree: what it kept, what it dropped, what it chose."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headway.decode.beam import BeamStep, Hypothesis
from headway.explain.alignment import check_writes_text, evaluating, show_tokens
from headway.explain.svg import picture, rectangle, shorten, text
from headway.tasks._model import Model

KEPT, DROPPED, FINISHED = "kept", "dropped", "finished"
_BOX = (76.0, 32.0)
_ACROSS, _DOWN = 108.0, 42.0
_TOP, _LEFT = 24.0, 8.0


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
    example = task.encode([{"source": source}], model.setting).examples[0]
    steps: list[BeamStep] = []
    with evaluating(model.body):
        found = task.search(model.body, [example.input_ids], model.setting, observer=steps.append)
    best = found[0][0]
    path = [*best.ids, model.tokenizer.end_id] if best.is_finished else best.ids
    grower = _Grower(model, path, num_dropped)
    for number, step in enumerate(steps[:max_steps], 1):
        grower.add(number, step)
    return SearchTree(
        nodes=tuple(grower.nodes),
        num_beams=num_beams,
        length_penalty=task.length_penalty,
        best=best,
        num_steps=len(steps),
    )


class _Grower:
    """Turns the steps of a search into nodes.

    Args:
        model: For its vocabulary.
        path: Token ids of the best result.
        num_dropped: Dropped candidates kept of each step.
    """

    def __init__(self, model: Model, path: Sequence[int], num_dropped: int) -> None:
        self.nodes: list[Node] = []
        self._model, self._path, self._num_dropped = model, path, num_dropped
        # Node of each live beam; None is the start sign.
        self._beams: list[int | None] = [None]

    def add(self, number: int, step: BeamStep) -> None:
        """Add the candidates of one step, of the only row there is."""
        live: list[int | None] = []
        room = self._num_dropped
        columns = (step.parents, step.tokens, step.scores, step.kept, step.finished)
        for parent, token_id, total, kept, finished in zip(
            *(column[0].tolist() for column in columns), strict=True
        ):
            if total == -float("inf"):
                continue
            state = KEPT if kept else FINISHED if finished else DROPPED
            room -= state == DROPPED
            if state == DROPPED and room < 0:
                continue
            if kept:
                live.append(len(self.nodes))
            self._append(number, self._beams[parent], token_id, total, state)
        self._beams = live

    def _append(
        self, number: int, parent: int | None, token_id: int, total: float, state: str
    ) -> None:
        before = 0.0 if parent is None else self.nodes[parent].total
        follows = parent is None or self.nodes[parent].is_best
        is_next = number <= len(self._path) and self._path[number - 1] == token_id
        self.nodes.append(
            Node(
                step=number,
                token=show_tokens(self._model.tokenizer, [token_id])[0],
                parent=parent,
                log_probability=total - before,
                total=total,
                state=state,
                is_best=follows and is_next and state != DROPPED,
            )
        )


def draw_search(tree: SearchTree) -> str:
    """Draw a search from left to right: a column for each step, the best candidate on top."""
    places = _places(tree.nodes)
    columns = max((node.step for node in tree.nodes), default=0)
    rows = max((row for _, row in places.values()), default=0) + 1
    width = _LEFT + (columns + 1) * _ACROSS
    height = _TOP + rows * _DOWN + 6
    ordered = sorted(range(len(tree.nodes)), key=lambda place: tree.nodes[place].is_best)
    parts = [
        text(_LEFT + step * _ACROSS + _BOX[0] / 2, 14, step, anchor="middle", size=10.5, kind="soft")
        for step in range(1, columns + 1)
    ]
    parts += [_edge(tree.nodes[place], places, place) for place in ordered]
    parts += _start()
    for place, node in enumerate(tree.nodes):
        parts += _box(node, *_corner(*places[place]), tree.length_penalty)
    return picture(width, height, parts, label="Tree of a beam search")


def _places(nodes: Sequence[Node]) -> Mapping[int, tuple[int, int]]:
    """Give each node a column and a row: results and beams first, dropped candidates below."""
    places: dict[int, tuple[int, int]] = {}
    for step in {node.step for node in nodes}:
        own = [place for place, node in enumerate(nodes) if node.step == step]
        own.sort(key=lambda place: nodes[place].state == DROPPED)
        places |= {place: (step, row) for row, place in enumerate(own)}
    return places


def _corner(column: int, row: int) -> tuple[float, float]:
    return _LEFT + column * _ACROSS, _TOP + row * _DOWN


def _edge(node: Node, places: Mapping[int, tuple[int, int]], place: int) -> str:
    x, y = _corner(*places[place])
    start = (0, 0) if node.parent is None else places[node.parent]
    from_x, from_y = _corner(*start)
    from_x, from_y, y = from_x + _BOX[0], from_y + _BOX[1] / 2, y + _BOX[1] / 2
    middle = (from_x + x) / 2
    kind = "s0" if node.is_best else "grey"
    style = 'stroke-width="3"' if node.is_best else 'stroke-width="1.2"'
    if node.state == DROPPED:
        style = 'stroke-width="1" stroke-dasharray="2 3"'
    return (
        f'<path d="M{from_x:.1f} {from_y:.1f}C{middle:.1f} {from_y:.1f} {middle:.1f} {y:.1f} '
        f'{x:.1f} {y:.1f}" fill="none" class="{kind}" {style}/>'
    )


def _start() -> list[str]:
    x, y = _corner(0, 0)
    return [
        rectangle(x, y, *_BOX, kind="paper grey", rounded=6),
        text(x + _BOX[0] / 2, y + 20, "start", anchor="middle", kind="soft"),
    ]


def _box(node: Node, x: float, y: float, length_penalty: float) -> list[str]:
    middle = x + _BOX[0] / 2
    kinds = {KEPT: "paper frame", DROPPED: "paper rule", FINISHED: "paper s2"}
    frame = "paper s0" if node.is_best and node.state == KEPT else kinds[node.state]
    title = f"{node.token}: {node.log_probability:.3f} here, {node.total:.3f} in all; {node.state}"
    token_kind = {KEPT: "strong", DROPPED: "soft", FINISHED: "good"}[node.state]
    numbers = f"{node.total:.2f}"
    if node.state == FINISHED:
        score = node.total / node.step**length_penalty
        title += f"; score {score:.3f}"
        numbers += f" \u2192 {score:.2f}"
    return [
        rectangle(x, y, *_BOX, kind=frame, title=title, rounded=6),
        text(middle, y + 14, shorten(node.token, 6), anchor="middle", size=12, kind=token_kind),
        text(middle, y + 27, numbers, anchor="middle", size=10, kind="soft"),
    ]
