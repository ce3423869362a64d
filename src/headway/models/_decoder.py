"""What GPT and its relatives share: the network around their layers, and how it goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from headway.errors import ConfigError
from headway.layers.attention import SelfAttention, projections
from headway.layers.blocks import Block, FeedForward, LayerNorm, Residual
from headway.layers.cache import Ancestry, KeyValueCache
from headway.layers.embeddings import PlacedEmbeddings
from headway.layers.masks import side_mask
from headway.layers.pooling import EndsPooler
from headway.layers.side import Memory, Side, Start
from headway.layers.sight import Sight
from headway.layers.stacks import CausalState, Layers
from headway.models._config import StackConfig
from headway.names import PublishedHead, Rename


@dataclass(frozen=True, kw_only=True)
class DecoderConfig(StackConfig):
    """Sizes and choices that GPT and its relatives have in common, with GPT-2's defaults."""

    vocab_size: int = 50257
    """Entries of the vocabulary; recipes take the tokenizer's."""
    intermediate_size: int = 0
    """Inner width of the feed-forward layers; 0: four times hidden_size."""
    max_position_embeddings: int = 1024
    """Longest text, in tokens."""
    activation: str = "gelu_new"
    """gelu, gelu_new, relu or silu, between the feed-forward layers."""
    layer_norm_epsilon: float = 1e-5
    """Added to the variance in every norm."""

    # Whether texts can be longer than those it was trained on.
    is_unbounded = False

    def __post_init__(self) -> None:
        if not self.intermediate_size:
            object.__setattr__(self, "intermediate_size", 4 * self.hidden_size)

    def fixed_problems(self) -> list[str]:
        """Find values that differ from those which a family's files take for granted."""
        values = {"intermediate_size": 4 * self.hidden_size, "activation": "gelu_new"}
        return [
            f"{name} is {getattr(self, name)!r}, but files of this family are always read as "
            f"{value!r}"
            for name, value in values.items()
            if getattr(self, name) != value
        ]


def sizes(width: int, layers: int, heads: int) -> dict[str, Any]:
    """Write a row of a table of sizes."""
    return {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}


def placed_embeddings(config: DecoderConfig) -> PlacedEmbeddings:
    """Build embeddings as GPT has them: tokens and learned positions."""
    return PlacedEmbeddings(
        config.vocab_size,
        config.hidden_size,
        config.max_position_embeddings,
        dropout=config.dropout,
    )


def gpt_layers(config: DecoderConfig, attentions: Iterable[nn.Module]) -> Layers:
    """Build layers as GPT-2 has them: blocks with norms before, and a norm at the end."""
    norm = LayerNorm(config.hidden_size, eps=config.layer_norm_epsilon)
    return Layers((gpt_block(config, attention) for attention in attentions), norm)


# Optional parts of a decoder; which of them a published class has is in its layout.
PARTS = ("output",)


def check_decoder(config: Any, parts: Sequence[str]) -> None:
    """Raise a ConfigError for sizes that do not fit or parts that nobody has."""
    problems = config.check()
    problems += [f"a decoder has no part {part!r}" for part in parts if part not in PARTS]
    if problems:
        raise ConfigError("model: " + "; ".join(problems))


def plain_attention(
    config: Any, *, bias: bool = True, scale: float | None = None, window: int = 0
) -> SelfAttention:
    """Build attention as GPT has it: as many keys as queries, all of the model's width."""
    width = config.hidden_size
    return SelfAttention(
        *projections(width, width, bias=bias),
        head_size=width // config.num_attention_heads,
        scale=scale,
        window=window,
    )


def gpt_block(config: Any, attention: nn.Module, *, pre_norm: bool = True) -> Block:
    """Build a block as GPT has it: layer norms, and two layers with an activation between them."""

    norms = [LayerNorm(config.hidden_size, eps=config.layer_norm_epsilon) for _ in range(2)]
    return Block(
        attention,
        FeedForward(config.hidden_size, config.intermediate_size, config.activation),
        *(Residual(norm, dropout=config.dropout, pre_norm=pre_norm) for norm in norms),
    )


class Decoder(nn.Module):
    """What GPT and its relatives have in common: embeddings, layers, and scores of what comes next.

    The families differ in what they build and in what they are called; each file builds its
    embeddings and layers and hands them over.

    Args:
        config: Sizes and choices.
        parts: What to have beside the layers: "output".
        embeddings: What enters.
        decoder: The layers.
        see: Makes a sight of the places of queries and keys and of what is allowed, where places
            act on attention itself.
        scales_residuals: Fresh layers that end a residual branch are smaller by sqrt(2 L).
    """

    kind = "decoder"
    # Parts that training can freeze or slow down by themselves, from the input up.
    stages = ("embeddings", "decoder.layers.{}")
    # Published heads score the last token, without a bias.
    has_head_bias = False

    def __init__(
        self,
        config: Any,
        parts: Sequence[str],
        *,
        embeddings: nn.Module,
        decoder: Layers,
        see: Callable[[Tensor, Tensor, Tensor | None], Sight] = Sight,
        scales_residuals: bool = True,
    ) -> None:
        super().__init__()
        self.config, self.parts = config, tuple(parts)
        self.embeddings, self.decoder = embeddings, decoder
        self.see, self.scales_residuals = see, scales_residuals
        self.pooler = EndsPooler(1)
        self.output = None
        if "output" in parts:
            self.output = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.init_weights()
        self.tie_weights()

    def tie_weights(self) -> None:
        """Let the output layer share the embeddings' matrix, unless the config says no."""
        if self.output is not None and self.config.tie_word_embeddings:
            self.output.weight = self.embeddings.token.weight  # pyright: ignore

    def init_weights(self, part: str = "") -> None:
        """Draw all weights, or those of one part, anew, as the authors of GPT-2 did.

        | parameter | distribution |
        |---|---|
        | matrices and tables | normal, deviation `initializer_range` |
        | layers that end a residual branch | that divided by sqrt(2 L), where the family does so |
        | biases | 0 |
        | norms | 1 and 0 |
        """
        config = self.config
        if self.embeddings.token.weight.is_meta and not part:  # pyright: ignore
            # Built without memory, as for a file's tensors: there is nothing to draw.
            return
        ends = ("attention.output", "feed_forward.down")
        smaller = (2 * config.num_hidden_layers) ** -0.5 if self.scales_residuals else 1.0
        for name, layer in self.get_submodule(part).named_modules():
            if isinstance(layer, nn.Linear | nn.Embedding):
                factor = smaller if name.endswith(ends) else 1.0
                nn.init.normal_(layer.weight, std=config.initializer_range * factor)
            if isinstance(layer, nn.Linear) and layer.bias is not None:
                nn.init.zeros_(layer.bias)
            if isinstance(layer, nn.LayerNorm | nn.RMSNorm):
                layer.reset_parameters()

    def hidden_states(self, source: Side) -> Iterator[Tensor]:
        """Give what enters the blocks, (B, T, D) float, and then what leaves each of them.

        Where the side brings hidden states along, those and what leaves the blocks above them.
        """
        start = source.start or Start(self.embeddings(source), 0)
        return self.decoder.states(start.hidden, self._sight_of(source), first=start.depth)

    def _sight_of(self, source: Side) -> Sight:
        mask = side_mask(source, is_causal=True)
        return self.see(source.positions, source.positions, mask)

    def encode(self, source: Side) -> Memory:
        """Read a text, each token in sight of those before it.

        Args:
            source: (B, S).
        Returns:
            memory: (B, S, D) float.
        """
        return Memory.from_states(self.hidden_states(source), source)

    def depth_of(self, num_stages: int) -> int | None:
        """Say which hidden state the lowest stages complete; None where it is none."""
        last = len(self.decoder.layers)
        # What leaves the last block has passed the norm behind it, which may still learn.
        return num_stages - 1 if 0 < num_stages <= last else None

    def logits(self, hidden: Tensor) -> Tensor:
        """Score the next token.

        Args:
            hidden: (B, T, D) float.
        Returns:
            logits: (B, T, V) float.
        """
        if self.output is None:
            raise ConfigError("this model was opened without the layer that scores words")
        return self.output(hidden)

    def start(self, prompt: Side, *, num_beams: int, max_steps: int) -> CausalState:
        """Read a prompt and make room for the tokens to come.

        Args:
            prompt: (B, S). One document in a row, padded on the right; may be of no width.
            num_beams: Beams R of each row.
            max_steps: Steps there shall be room for.
        """
        like: Tensor = self.embeddings.token.weight  # pyright: ignore
        ancestry = Ancestry(
            prompt.attention_mask, num_beams=num_beams, max_steps=max_steps, like=like
        )
        caches = [KeyValueCache(ancestry) for _ in self.decoder.layers]
        if prompt.documents.shape[1]:
            hidden = self.embeddings(prompt)
            deque(self.decoder.states(hidden, self._sight_of(prompt), caches), maxlen=0)
        return CausalState(ancestry=ancestry, caches=caches)

    def step(self, input_ids: Tensor, state: CausalState) -> Tensor:
        """Advance every beam by one token.

        Args:
            input_ids: (B, R) int64. The newest token of each beam; the prompt's last to begin with.
            state: Changed in place.
        Returns:
            hidden: (B, R, D) float. What `logits` scores.
        """
        ancestry = state.ancestry
        ancestry.advance()
        positions = ancestry.newest_positions
        sight = self.see(positions, ancestry.positions, ancestry.bias)
        newest = Side(
            documents=input_ids, positions=positions.expand_as(input_ids), input_ids=input_ids
        )
        *_, hidden = self.decoder.states(self.embeddings(newest), sight, state.caches)
        return hidden


def make_heads(names: str, *, causal: str = "ForCausalLM") -> dict[str, PublishedHead]:
    """List the published classes of a family.

    Args:
        names: What its classes begin with.
        causal: How the one that scores words ends.
    """
    return {
        "causal_lm": PublishedHead(f"{names}{causal}", PARTS, (Rename("lm_head", "output"),)),
        "body": PublishedHead(f"{names}Model", (), is_body=True),
        # Nobody published one: the head is a file of its own beside the body.
        "choice": PublishedHead(f"{names}Model", (), is_body=True),
        "sequence": PublishedHead(
            f"{names}ForSequenceClassification", (), (Rename("score", "head.output"),)
        ),
    }
