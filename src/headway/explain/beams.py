"""A beam search as a tree: what it kept, what it dropped, what it chose."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from headway.decode.beam import BeamStep, Hypothesis
from headway.explain.alignment import check_writes_text, evaluating, show_tokens
from headway.explain.svg import picture, rectangle, shorten, show_spaces, text, width_of
from headway.tasks._model import Model

KEPT, DROPPED, FINISHED = "kept", "dropped", "finished"
# Boxes are as wide as their tokens need, within these bounds.
_NARROWEST, _WIDEST, _TALL = 66.0, 84.0, 32.0
_GAP, _DOWN = 22.0, 42.0
_TOP, _LEFT = 24.0, 48.0


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
    return _Drawing(tree).draw()


class _Drawing:
    """Places the nodes of a search in a grid of steps and ranks."""

    def __init__(self, tree: SearchTree) -> None:
        self.tree = tree
        needed = max(
            (width_of(show_spaces(node.token)) * 12 + 12 for node in tree.nodes), default=0
        )
        self.width = min(_WIDEST, max(_NARROWEST, needed))
        self.places = _rank(tree.nodes)
        self.num_rows = max(self.places.values(), default=0) + 1
        self.num_columns = max((node.step for node in tree.nodes), default=0)

    def draw(self) -> str:
        nodes = self.tree.nodes
        across = self.width + _GAP
        # Edges of the best path come last, so that they lie on top.
        ordered = sorted(range(len(nodes)), key=lambda place: nodes[place].is_best)
        parts = [self._number(step) for step in range(1, self.num_columns + 1)]
        parts += [self._edge(place) for place in ordered]
        parts.append(f'<circle cx="14" cy="{_TOP + _TALL / 2:.1f}" r="6" class="c0"/>')
        for place in range(len(nodes)):
            parts += self._box(place)
        height = _TOP + self.num_rows * _DOWN
        width = _LEFT + self.num_columns * across
        return picture(width, height, parts, label="Tree of a beam search")

    def _corner(self, place: int) -> tuple[float, float]:
        column = self.tree.nodes[place].step - 1
        return _LEFT + column * (self.width + _GAP), _TOP + self.places[place] * _DOWN

    def _number(self, step: int) -> str:
        middle = _LEFT + (step - 1) * (self.width + _GAP) + self.width / 2
        return text(middle, 14, step, anchor="middle", size=10.5, kind="soft")

    def _edge(self, place: int) -> str:
        node = self.tree.nodes[place]
        x, y = self._corner(place)
        if node.parent is None:
            from_x, from_y = 20.0, _TOP
        else:
            from_x, from_y = self._corner(node.parent)
            from_x += self.width
        from_y, y, middle = from_y + _TALL / 2, y + _TALL / 2, (from_x + x) / 2
        kind = "s0" if node.is_best else "grey"
        style = 'stroke-width="3"' if node.is_best else 'stroke-width="1.2"'
        if node.state == DROPPED:
            style = 'stroke-width="1" stroke-dasharray="2 3"'
        return (
            f'<path d="M{from_x:.1f} {from_y:.1f}C{middle:.1f} {from_y:.1f} {middle:.1f} {y:.1f} '
            f'{x:.1f} {y:.1f}" fill="none" class="{kind}" {style}/>'
        )

    def _box(self, place: int) -> list[str]:
        node, (x, y) = self.tree.nodes[place], self._corner(place)
        title = f"{node.token}: {node.log_probability:.3f} here, {node.total:.3f} in all; "
        title += node.state
        numbers = f"{node.total:.2f}"
        if node.state == FINISHED:
            score = node.total / node.step**self.tree.length_penalty
            title += f", score {score:.3f}"
            numbers += f" \u2192 {score:.2f}"
        token = shorten(show_spaces(node.token), (self.width - 6) / 12)
        middle, size = x + self.width / 2, 9 if node.state == FINISHED else 10
        return [
            rectangle(x, y, self.width, _TALL, kind=_frame(node), title=title, rounded=6),
            text(middle, y + 14, token, anchor="middle", size=12, kind=_TOKEN_KINDS[node.state]),
            text(middle, y + 27, numbers, anchor="middle", size=size, kind="soft"),
        ]


_TOKEN_KINDS = MappingProxyType({KEPT: "strong", DROPPED: "soft", FINISHED: "good"})


def _frame(node: Node) -> str:
    if node.state == FINISHED:
        return "paper s2"
    if node.state == DROPPED:
        return "paper rule"
    return "paper s0" if node.is_best else "paper frame"


def _rank(nodes: Sequence[Node]) -> Mapping[int, int]:
    """Give each node a row in its column: results and beams first, dropped candidates below."""
    rows: dict[int, int] = {}
    for step in {node.step for node in nodes}:
        own = [place for place, node in enumerate(nodes) if node.step == step]
        own.sort(key=lambda place: nodes[place].state == DROPPED)
        rows |= {place: row for row, place in enumerate(own)}
    return rows
