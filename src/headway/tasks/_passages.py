"""Questions beside their passages, long ones in windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headway.tasks._examples import encode_bare
from headway.tasks._task import Rows
from headway.text.align import pieces_of_spans
from headway.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Passage:
    """A question and a passage as pieces.

    Args:
        text: The passage.
        question: Pieces of the question.
        ids: Pieces of the passage.
        offsets: Characters [start, end) of each of them.
    """

    text: str
    question: list[int]
    ids: list[int]
    offsets: list[tuple[int, int]]

    def is_cut(self, longest: int) -> bool:
        """Say whether the question is longer than half of a window, all that it may have."""
        return len(self.question) > longest // 2

    def characters_of(self, first: int, last: int) -> tuple[int, int]:
        """Find the characters of a stretch of pieces; a space that a piece begins with is none."""
        start, end = self.offsets[first][0], self.offsets[last][1]
        while start < end and self.text[start].isspace():
            start += 1
        return start, end

    def pieces_of(self, start: int, end: int) -> tuple[int, int] | None:
        """Find the first and last piece of a stretch of characters; None if there is none."""
        (inside,) = pieces_of_spans([(start, end)], self.offsets)
        return (inside[0], inside[-1]) if inside else None


@dataclass(frozen=True)
class PassageWindow:
    """A stretch of a passage with its question.

    Args:
        passage: Which passage.
        first: Its first piece.
        stop: The piece after its last.
        offset: Where that first piece stands in `ids`.
        second: First token of the second segment; None where the model knows none.
        ids: All of it, special tokens included.
    """

    passage: int
    first: int
    stop: int
    offset: int
    second: int | None
    ids: list[int]

    def holds(self, span: tuple[int, int]) -> bool:
        """Say whether a first and a last piece are in it."""
        return self.first <= span[0] and span[1] < self.stop


def read_passages(rows: Rows, tokenizer: Tokenizer) -> list[Passage]:
    """Cut questions and passages into pieces.

    Args:
        rows: With "question" and "context".
        tokenizer: Cuts texts into pieces.
    """
    questions = tokenizer.encode_ids([row["question"] for row in rows], bare=True)
    contexts = [row["context"] for row in rows]
    # Many questions share a passage.
    unique = list(dict.fromkeys(contexts))
    encoded = dict(zip(unique, encode_bare(unique, tokenizer), strict=True))
    return [
        Passage(context, question, encoded[context].ids, encoded[context].offsets)
        for question, context in zip(questions, contexts, strict=True)
    ]


def cut_passages(
    passages: Sequence[Passage], tokenizer: Tokenizer, *, longest: int, stride: int
) -> list[PassageWindow]:
    """Lay out question and passage; a long passage in windows.

    Args:
        passages: Any.
        tokenizer: Knows the special tokens.
        longest: Tokens of a window. A question may have half of it and is cut there.
        stride: Pieces by which a window begins after the one before it.
    """
    windows = []
    for number, passage in enumerate(passages):
        question = passage.question[: longest // 2]
        head = [tokenizer.start_id, *question, *tokenizer.between]
        offset = len(head)
        second = offset if tokenizer.tells_segments else None
        room = max(1, longest - offset - 1)
        first = 0
        while True:
            stop = min(first + room, len(passage.ids))
            ids = [*head, *passage.ids[first:stop], tokenizer.end_id]
            windows.append(PassageWindow(number, first, stop, offset, second, ids))
            if stop == len(passage.ids):
                break
            first += min(stride, room)
    return windows
