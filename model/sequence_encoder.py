"""The sequence encoder ``f(s)``, shared by all systems: a SASRec-style transformer."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from adaptiverec.common.checks import check_at_least, check_choice, check_rate
from adaptiverec.common.errors import InvalidValueError
from adaptiverec.model.dropout import Dropout
from adaptiverec.model.initialization import small_normal
from adaptiverec.model.layer_norm import LayerNorm
from adaptiverec.model.look_up import look_up
from adaptiverec.model.packed_batch import PackedBatch
from adaptiverec.model.transformer_block import TransformerBlock

__all__ = ["POSITIONS_FROM", "SequenceEncoder", "sequence_lengths"]

POSITIONS_FROM = ("start", "end")


def sequence_lengths(item_ids: Any) -> Any:
    """The number of items of each row, int tensor of shape `[batch]`."""
    return ops.sum(ops.cast(item_ids != 0, "int32"), axis=-1)


@keras.saving.register_keras_serializable("adaptiverec")
class SequenceEncoder(keras.layers.Layer):
    """Encodes a sequence of items as the state at its last item.

    Item embedding and learned position embedding → layer norm → dropout → blocks of
    causal self-attention (Kang & McAuley 2018, section III).

    Dense item ids are 1 … `num_items`; 0 is padding, at the end of a row; and
    `num_items + 1` is the `[mask]` token of the augmentations.

    Args:
        num_items: Size of the catalogue.
        max_length: Longest sequence, in items.
        hidden_dim: H, size of embeddings and states.
        num_blocks: Transformer blocks.
        num_heads: Attention heads of each.
        inner_dim: Units of their feed-forward networks.
        dropout: Rate, for embeddings, attention and sublayers alike.
        positions_from: Which end of the sequence an item's place is counted from:
            `"start"`, or `"end"`, where the last item's is always the same, as with
            padding in front (Kang & McAuley 2018).
        low_pass_share: Share of a low-pass filter beside attention, from 0 to below 1.
        low_pass_frequencies: Of that filter, see :class:`~.low_pass.LowPass`.

    Raises:
        InvalidValueError: An argument is outside its rule.

    Example:
        >>> encoder = SequenceEncoder(num_items=9, max_length=5, hidden_dim=8)
        >>> encoder(keras.ops.array([[3, 1, 0], [2, 2, 7]])).shape
        TensorShape([2, 8])
    """

    def __init__(
        self,
        *,
        num_items: int,
        max_length: int = 50,
        hidden_dim: int = 64,
        num_blocks: int = 2,
        num_heads: int = 2,
        inner_dim: int = 256,
        dropout: float = 0.5,
        positions_from: str = "start",
        low_pass_share: float = 0.0,
        low_pass_frequencies: int = 3,
        **kwargs: Any,
    ) -> None:
        # What embeddings add up to is rounded once, to the precision to compute in.
        super().__init__(**{"autocast": False, **kwargs})
        check_at_least("num_items", num_items, 1)
        check_at_least("max_length", max_length, 1)
        check_at_least("num_blocks", num_blocks, 1)
        check_at_least("num_heads", num_heads, 1)
        check_at_least("inner_dim", inner_dim, 1)
        if hidden_dim < 1 or hidden_dim % num_heads:
            raise InvalidValueError(
                "hidden_dim must be a positive multiple of num_heads. Received: "
                f"hidden_dim={hidden_dim}, num_heads={num_heads}"
            )
        check_rate("dropout", dropout)
        check_choice("positions_from", positions_from, POSITIONS_FROM)
        check_rate("low_pass_share", low_pass_share)
        check_at_least("low_pass_frequencies", low_pass_frequencies, 1)
        self.num_items = num_items
        self.max_length = max_length
        self.hidden_dim = hidden_dim
        self.num_blocks = num_blocks
        self.num_heads = num_heads
        self.inner_dim = inner_dim
        self.dropout_rate = dropout
        self.positions_from = positions_from
        self.low_pass_share = low_pass_share
        self.low_pass_frequencies = low_pass_frequencies
        # Padding, the items, [mask].
        self.item_embedding = keras.layers.Embedding(
            num_items + 2,
            hidden_dim,
            embeddings_initializer=small_normal(),
            dtype=self.dtype_policy,
            name="item_embedding",
        )
        self.position_embedding = keras.layers.Embedding(
            max_length,
            hidden_dim,
            embeddings_initializer=small_normal(),
            dtype=self.dtype_policy,
            name="position_embedding",
        )
        self.norm = LayerNorm(epsilon=1e-12, dtype=self.dtype_policy, name="norm")
        self.dropout = Dropout(dropout, dtype=self.dtype_policy, name="dropout")
        self.blocks = [
            TransformerBlock(
                num_heads=num_heads,
                inner_dim=inner_dim,
                dropout=dropout,
                low_pass_share=low_pass_share,
                low_pass_frequencies=low_pass_frequencies,
                max_length=max_length,
                dtype=self.dtype_policy,
                name=f"block_{index}",
            )
            for index in range(num_blocks)
        ]

    def build(self, input_shape: Any = None) -> None:
        """Creates all weights; their shapes do not depend on the input."""
        states = (None, self.hidden_dim)
        self.item_embedding.build()
        self.position_embedding.build()
        self.norm.build(states)
        for block in self.blocks:
            block.build(states)

    def call(self, item_ids: Any, *, training: bool = False) -> Any:
        """Computes ``f(s)``.

        Args:
            item_ids: Int tensor of shape `[batch, length]`, length ≤ `max_length`.
            training: Whether to drop out.

        Returns:
            Float tensor of shape `[batch, hidden_dim]`.
        """
        batch = PackedBatch.dense(item_ids, sequence_lengths(item_ids))
        return self._encode(batch, training=training)

    def encode_by_length(self, item_ids: Any, *, training: bool = False) -> Any:
        """Computes ``f(s)`` without the work that padding costs.

        Equal to calling the encoder, dropout masks aside. Shapes are dynamic, so it
        cannot be compiled by XLA.

        Args:
            item_ids: As for the call.
            training: Whether to drop out.

        Returns:
            Float tensor of shape `[batch, hidden_dim]`.
        """
        batch = PackedBatch.by_length(item_ids, sequence_lengths(item_ids))
        return batch.in_order(self._encode(batch, training=training))

    def encode_all_positions(
        self, item_ids: Any, *, by_length: bool = True, training: bool = False
    ) -> tuple[Any, Any, PackedBatch]:
        """Computes the state at every item, not the last one alone.

        Args:
            item_ids: As for the call.
            by_length: Whether to leave out the work that padding costs.
            training: Whether to drop out.

        Returns:
            ``f(s)``, float `[batch, hidden_dim]`; the states of all items, float
            `[tokens, hidden_dim]`, in the order of the packed batch; and that.
        """
        pack = PackedBatch.by_length if by_length else PackedBatch.dense
        batch = pack(item_ids, sequence_lengths(item_ids))
        states = self._encode(batch, last_only=False, training=training)
        last = batch.in_order(look_up(states, batch.last_tokens))
        return last, states, batch

    def _encode(
        self, batch: PackedBatch, *, last_only: bool = True, training: bool
    ) -> Any:
        """The states at the last tokens, or at all, in the order of the packed batch."""
        states = look_up(self.item_embedding.embeddings, batch.item_ids, padding=0)
        from_end = self.positions_from == "end"
        places = batch.positions_from_end if from_end else batch.positions
        states += look_up(self.position_embedding.embeddings, places)
        states = ops.cast(states, self.compute_dtype)
        states = self.dropout(self.norm(states), training=training)
        for block in self.blocks[:-1]:
            states = block(states, batch=batch, training=training)
        # Where only the last item's state is asked for, the last block computes no other.
        return self.blocks[-1](
            states, batch=batch, last_only=last_only, training=training
        )

    @property
    def item_vectors(self) -> Any:
        """E, the catalogue's embeddings, `[num_items, hidden_dim]`; row i is item i+1."""
        # Indexing gives the same, but a gradient that is made one number at a time.
        table = self.item_embedding.embeddings
        return ops.slice(table, [1, 0], [self.num_items, self.hidden_dim])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_items": self.num_items,
            "max_length": self.max_length,
            "hidden_dim": self.hidden_dim,
            "num_blocks": self.num_blocks,
            "num_heads": self.num_heads,
            "inner_dim": self.inner_dim,
            "dropout": self.dropout_rate,
            "positions_from": self.positions_from,
            "low_pass_share": self.low_pass_share,
            "low_pass_frequencies": self.low_pass_frequencies,
        }
