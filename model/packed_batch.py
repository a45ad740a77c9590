"""A batch of sequences as one run of tokens, and as padded groups for attention.

All that a transformer does to each position by itself is done to the run, where there is
no padding: padding all of Amazon Beauty's sequences to 50 items would make six times the
work. Attention alone looks across positions. For it, sequences of similar length are
padded to a common one, group by group.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from adaptiverec.common.errors import InvalidValueError

__all__ = ["PackedBatch"]

# What the sequences of the first group are padded to; each next one's have twice that.
_SHORTEST_CAP = 4


class PackedBatch:
    """The tokens of all sequences, one sequence after the other.

    Made by :meth:`by_length`, which leaves padding out and orders sequences by length, or
    by :meth:`dense`, which takes a batch as it is, padding and all: less to prepare, for
    few sequences of like length.

    Args:
        item_ids: Int tensor of shape `[tokens]`.
        lengths: Tokens of each sequence, int tensor of shape `[batch]`.
        last_positions: Where each sequence ends, int tensor of shape `[batch]`.
        groups: Number of sequences and length to pad to, for each group; consecutive
            sequences.
        sequence: Which sequence each token is of, int tensor of shape `[tokens]`.
        order: Which row of the original batch each sequence is, or None for all in place.

    Attributes:
        item_ids: As given.
        positions: The place of each token in its sequence, int tensor of shape `[tokens]`.
        last_positions: As given.
        last_tokens: The token that each sequence ends with, int tensor of shape `[batch]`.
    """

    def __init__(
        self,
        item_ids: tf.Tensor,
        lengths: tf.Tensor,
        last_positions: tf.Tensor,
        groups: list[tuple[tf.Tensor, tf.Tensor | int]],
        sequence: tf.Tensor,
        order: tf.Tensor | None = None,
    ) -> None:
        self.item_ids = item_ids
        self._lengths = lengths
        self.last_positions = last_positions
        self._groups = groups
        self._order = order
        self._starts = tf.cumsum(lengths, exclusive=True)
        self.positions = tf.range(tf.size(item_ids)) - tf.gather(self._starts, sequence)
        self.last_tokens = self._starts + last_positions
        self._sequence = sequence

    @property
    def positions_from_end(self) -> tf.Tensor:
        """How many items of its sequence follow each token, int `[tokens]`; padding's 0."""
        ends = tf.gather(self.last_positions, self._sequence)
        return tf.maximum(ends - self.positions, 0)

    @property
    def histories(self) -> tf.Tensor:
        """Each token's items so far, its own the last and then repeated.

        Int tensor of shape `[tokens, longest]`.
        """
        places = tf.range(self._groups[-1][1])
        first = tf.gather(self._starts, self._sequence)[:, None]
        return tf.gather(
            self.item_ids, first + tf.minimum(places[None, :], self.positions[:, None])
        )

    @classmethod
    def by_length(cls, item_ids: tf.Tensor, lengths: tf.Tensor) -> PackedBatch:
        """Leaves padding out and groups sequences of similar length.

        Args:
            item_ids: Int tensor of shape `[batch, max_length]`, padded at the end; the
                static `max_length` must be known.
            lengths: Int tensor of shape `[batch]`. A sequence without an item counts as
                one of a single padding item.

        Raises:
            InvalidValueError: `max_length` is not known.
        """
        max_length = item_ids.shape[1]
        if max_length is None:
            raise InvalidValueError(
                "The number of columns of item_ids must be known, as after "
                f"padded_batch(…, padded_shapes=…). Received: {item_ids.shape}"
            )
        lengths = tf.maximum(lengths, 1)
        order = tf.argsort(lengths, stable=True)
        lengths = tf.gather(lengths, order)
        tokens = _tokens_of(item_ids, lengths, order)
        caps = [min(_SHORTEST_CAP, max_length)]
        while caps[-1] < max_length:
            caps.append(min(2 * caps[-1], max_length))
        ends = tf.unstack(tf.searchsorted(lengths, caps, side="right"))
        sizes = [end - start for start, end in itertools.pairwise([0, *ends])]
        groups = list(zip(sizes, caps, strict=True))
        sequence = tf.repeat(tf.range(tf.size(lengths)), lengths)
        return cls(tokens, lengths, lengths - 1, groups, sequence, order)

    @classmethod
    def dense(cls, item_ids: tf.Tensor, lengths: tf.Tensor) -> PackedBatch:
        """Takes a batch as it is, as one group; no shape depends on what is in it.

        Args:
            item_ids: Int tensor of shape `[batch, length]`, padded at the end.
            lengths: Int tensor of shape `[batch]`.
        """
        shape = tf.shape(item_ids)
        return cls(
            tf.reshape(item_ids, [-1]),
            tf.fill([shape[0]], shape[1]),
            tf.maximum(lengths - 1, 0),
            [(shape[0], shape[1])],
            tf.range(shape[0] * shape[1]) // shape[1],
        )

    def tokens_of(self, rows: tf.Tensor) -> tf.Tensor:
        """What stands at each token.

        Args:
            rows: Something for each item of the original batch, `[batch, max_length]`.

        Returns:
            A tensor of shape `[tokens]`.
        """
        if self._order is None:
            return tf.reshape(rows, [-1])
        return _tokens_of(rows, self._lengths, self._order)

    def in_order(self, rows: tf.Tensor) -> tf.Tensor:
        """Puts what was computed of each sequence, `[batch, …]`, in the original order."""
        if self._order is None:
            return rows
        return tf.gather(rows, tf.math.invert_permutation(self._order))

    def attend(
        self,
        attention: Callable[..., tf.Tensor],
        query: tf.Tensor,
        key: tf.Tensor,
        value: tf.Tensor,
        *,
        num_heads: int,
    ) -> tf.Tensor:
        """Lets the tokens of each sequence look at each other, group by group.

        Args:
            attention: Maps query, key and value, `[rows, num_heads, length, head_dim]`,
                to the same shape. Padding stands behind a sequence's end, so that no
                query of causal attention sees it.
            query: Float tensor of shape `[tokens, hidden_dim]`.
            key: Likewise.
            value: Likewise.
            num_heads: Divides `hidden_dim`.

        Returns:
            Float tensor of shape `[tokens, hidden_dim]`.
        """
        padding = self._padding(num_heads)
        padded = [padding.pad(tokens) for tokens in (query, key, value)]
        return padding.unpad([attention(*group) for group in zip(*padded, strict=True)])

    def mix(
        self, mixing: Callable[[tf.Tensor], tf.Tensor], states: tf.Tensor
    ) -> tf.Tensor:
        """Lets the tokens of each sequence mix, feature by feature, group by group.

        Args:
            mixing: Maps `[rows, length, hidden_dim]` to the same shape; it must be causal,
                as in :meth:`attend`.
            states: Float tensor of shape `[tokens, hidden_dim]`.

        Returns:
            Float tensor of shape `[tokens, hidden_dim]`.
        """
        padding = self._padding(1)
        groups = [tf.squeeze(group, axis=1) for group in padding.pad(states)]
        return padding.unpad([mixing(group) for group in groups])

    def attend_from_sequences(
        self, attention: Callable[..., tf.Tensor], states: tf.Tensor, *rows: tf.Tensor
    ) -> tf.Tensor:
        """Lets each sequence look at its tokens, group by group.

        Args:
            attention: Maps states `[rows, length, hidden_dim]`, padded at the end, and
                the group's part of each of `rows` to `[rows, …]`.
            states: Float tensor of shape `[tokens, hidden_dim]`.
            *rows: What belongs to the sequences, tensors of shape `[batch, …]`.

        Returns:
            What came of all groups, of shape `[batch, …]`.
        """
        sizes = [size for size, _ in self._groups]
        padded = [tf.squeeze(group, axis=1) for group in self._padding(1).pad(states)]
        parts = [tf.split(tensor, sizes, num=len(sizes)) for tensor in rows]
        groups = zip(padded, *parts, strict=True)
        return tf.concat([attention(*group) for group in groups], axis=0)

    def _padding(self, num_heads: int) -> _Padding:
        return _Padding(
            self._starts,
            self._lengths,
            self._groups,
            self._sequence,
            self.positions,
            num_heads,
        )


def _tokens_of(rows: tf.Tensor, lengths: tf.Tensor, order: tf.Tensor) -> tf.Tensor:
    rows = tf.gather(rows, order)
    return tf.boolean_mask(rows, tf.sequence_mask(lengths, rows.shape[1]))


class _Padding:
    """From tokens to heads of padded sequences and back, by look-ups alone.

    A look-up's gradient adds up what came of each row. Here each token stands in one
    place of the padded sequences, so the gradient of going there is the way back.
    """

    def __init__(
        self,
        starts: tf.Tensor,
        lengths: tf.Tensor,
        groups: list[tuple[tf.Tensor, tf.Tensor | int]],
        sequence: tf.Tensor,
        positions: tf.Tensor,
        num_heads: int,
    ) -> None:
        self._num_heads = num_heads
        self._groups = groups
        heads = tf.range(num_heads)
        there, real, first_place, caps = [], [], [], []
        first_row = place = 0
        for size, cap in groups:
            rows = slice(first_row, first_row + size)
            position = tf.range(cap)[None, None, :]
            length = lengths[rows][:, None, None]
            token = starts[rows][:, None, None] + tf.minimum(position, length - 1)
            index = token * num_heads + heads[None, :, None]
            there.append(tf.reshape(index, [-1]))
            real.append(
                tf.reshape(tf.broadcast_to(position < length, tf.shape(index)), [-1])
            )
            per_row = num_heads * cap
            first_place.append(place + tf.range(size) * per_row)
            caps.append(tf.fill([size], cap))
            first_row += size
            place += size * per_row
        self._there = tf.concat(there, axis=0)
        self._real = tf.concat(real, axis=0)[:, None]
        row_place = tf.gather(tf.concat(first_place, axis=0), sequence) + positions
        cap = tf.gather(tf.concat(caps, axis=0), sequence)
        back = row_place[:, None] + heads[None, :] * cap[:, None]
        self._back = tf.reshape(back, [-1])

    def pad(self, tokens: tf.Tensor) -> list[tf.Tensor]:
        """`[tokens, hidden_dim]` to `[rows, num_heads, cap, head_dim]` for each group."""
        head_dim = tokens.shape[-1] // self._num_heads

        @tf.custom_gradient
        def look_up(rows: tf.Tensor) -> Any:
            def gradient(upstream: tf.Tensor) -> tf.Tensor:
                return tf.gather(upstream, self._back)

            return tf.gather(rows, self._there), gradient

        flat = look_up(tf.reshape(tokens, [-1, head_dim]))
        sizes = [size * self._num_heads * cap for size, cap in self._groups]
        return [
            tf.reshape(part, [size, self._num_heads, cap, head_dim])
            for part, (size, cap) in zip(
                tf.split(flat, sizes, num=len(sizes)), self._groups, strict=True
            )
        ]

    def unpad(self, groups: list[tf.Tensor]) -> tf.Tensor:
        """The inverse of :meth:`pad`; what stands in padding is dropped."""
        head_dim = groups[0].shape[-1]

        @tf.custom_gradient
        def look_up(flat: tf.Tensor) -> Any:
            def gradient(upstream: tf.Tensor) -> tf.Tensor:
                padded = tf.gather(upstream, self._there)
                return padded * tf.cast(self._real, padded.dtype)

            return tf.gather(flat, self._back), gradient

        flat = tf.concat(
            [tf.reshape(group, [-1, head_dim]) for group in groups], axis=0
        )
        return tf.reshape(look_up(flat), [-1, self._num_heads * head_dim])
