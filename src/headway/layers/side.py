"""One side of a batch: the tensors that every body takes, padded and packed alike."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Start:
    """Hidden states that were computed before, from which a body goes on.

    Args:
        hidden: (B, T, D) float.
        depth: Which hidden state of the body they are; 0 enters the first layer.
    """

    hidden: Tensor
    depth: int

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Start:
        """Move the states to a device."""
        return Start(self.hidden.to(device, non_blocking=non_blocking), self.depth)


@dataclass(frozen=True, kw_only=True)
class Side:
    """Rows of tokens with the documents they belong to.

    A padded batch has one document in a row, a packed one several; tokens see each other when
    their document numbers are equal, so the same code serves both (design, section 4).

    Args:
        documents: (B, T) int64. 0 on padding, otherwise the number of the example in this row.
        positions: (B, T) int64. Place of the token in its document, from 0.
        input_ids: (B, T) int64. Token ids.
        token_type_ids: (B, T) int64. Segment of each token, where the model has segments.
        features: (B, T, E) float. Frames, image regions or patches, in place of `input_ids`.
        start: Hidden states to go on from; then tokens are not looked at.
    """

    documents: Tensor
    positions: Tensor
    input_ids: Tensor | None = None
    token_type_ids: Tensor | None = None
    features: Tensor | None = None
    start: Start | None = None

    @property
    def ids(self) -> Tensor:
        """Give (B, T) int64 token ids of a side that has them."""
        if self.input_ids is None:
            raise TypeError("this side carries features, not token ids")
        return self.input_ids

    @property
    def attention_mask(self) -> Tensor:
        """Give (B, T) bool, True on real tokens."""
        return self.documents > 0

    def to(self, device: torch.device | str) -> Side:
        """Move every tensor to a device."""
        moved = {
            field.name: value.to(device, non_blocking=True)
            for field in fields(self)
            if (value := getattr(self, field.name)) is not None
        }
        return replace(self, **moved)

    @staticmethod
    def padded(rows: list[list[int]] | tuple[list[int], ...], *, pad_id: int = 0) -> Side:
        """Lay out one document in each row, padded on the right to the longest."""
        lengths = torch.tensor([len(row) for row in rows])
        width = int(lengths.max()) if len(rows) else 0
        input_ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
        for number, row in enumerate(rows):
            input_ids[number, : len(row)] = torch.tensor(row, dtype=torch.long)
        return Side.from_lengths(lengths, input_ids=input_ids)

    @staticmethod
    def from_lengths(
        lengths: Tensor, *, input_ids: Tensor | None = None, features: Tensor | None = None
    ) -> Side:
        """Number the documents of padded rows.

        Args:
            lengths: (B,) int64. Real tokens in each row.
            input_ids: (B, T) int64.
            features: (B, T, E) float.
        """
        content = input_ids if input_ids is not None else features
        if content is None:
            raise TypeError("a side needs input_ids or features")
        places = torch.arange(content.shape[1], device=content.device).expand(content.shape[:2])
        real = places < lengths[:, None]
        return Side(
            documents=real.long(), positions=places * real, input_ids=input_ids, features=features
        )


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What an encoder hands to a decoder or a head.

    Args:
        hidden: (B, S, D) float. One vector for each source position.
        documents: (B, S) int64. As in the source side.
        lengths: (B) int64. Real positions of each row; of use where a row is one document.
        summary: (L, B, D) float. State to start a recurrent decoder from, one for each layer.
        cells: (L, B, D) float. Likewise, where the network is an LSTM.
    """

    hidden: Tensor
    documents: Tensor
    lengths: Tensor
    summary: Tensor | None = None
    cells: Tensor | None = None

    @staticmethod
    def from_states(states: Iterable[Tensor], source: Side) -> Memory:
        """Keep the last of an encoder's hidden states; the others may be freed on the way.

        Args:
            states: (B, T, D) float each, from the bottom up.
            source: (B, T).
        """
        *_, hidden = deque(states, maxlen=1)
        lengths = source.attention_mask.sum(1)
        return Memory(hidden=hidden, documents=source.documents, lengths=lengths)
