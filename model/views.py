"""Views: which two representations of a sequence are contrasted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from adaptiverec.common.checks import check_choice
from adaptiverec.common.errors import InvalidValueError

__all__ = ["SUPERVISED_VIEWS", "VIEWS", "Views", "make_views", "num_passes"]

VIEWS = ("us_x", "us", "su", "un", "augment")
# Those that contrast with another sequence of the same target item (DuoRec, "semantic").
SUPERVISED_VIEWS = ("us_x", "us", "su")

_PASSES = {None: 1, "un": 2, "su": 2, "us": 3, "us_x": 3, "augment": 3}


class Views(NamedTuple):
    """What one training step encodes.

    Attributes:
        first_pass: ``f(s)``, float `[batch, hidden_dim]`, which feeds the next-item
            loss.
        pairs: The pairs ``(z1, z2)`` to contrast, float `[batch, hidden_dim]` each; the
            contrastive losses of several pairs are summed.
    """

    first_pass: Any
    pairs: list[tuple[Any, Any]]


def make_views(
    kind: str | None,
    encode: Callable[..., list[Any]],
    item_ids: Any,
    *,
    same_target_item_ids: Any = None,
    augment: Callable[[Any], tuple[Any, Any]] | None = None,
) -> Views:
    """Encodes a batch as the views to contrast.

    ========= ======================================= ====================================
    kind      z1                                      z2
    ========= ======================================= ====================================
    un        f(s), the first pass                    f(s) under another dropout mask
    su        f(s), the first pass                    f(s'), s' of the same target item
    us        the pair of `un` and the pair of `su`
    us_x      f(s) under another dropout mask         f(s')
    augment   f(a(s))                                 f(b(s)), a ≠ b of crop, mask, reorder
    ========= ======================================= ====================================

    Args:
        kind: One of :data:`VIEWS`, or None for no pair at all.
        encode: Maps k batches of item ids to a list of k batches of representations, each
            row under a dropout mask of its own.
        item_ids: s, int tensor of shape `[batch, length]`.
        same_target_item_ids: s', of the same shape; for the supervised kinds.
        augment: Gives two augmentations of a batch; for `"augment"`.

    Returns:
        The :class:`Views`.

    Raises:
        InvalidValueError: A supervised kind without `same_target_item_ids`.
    """
    if kind in SUPERVISED_VIEWS and same_target_item_ids is None:
        raise InvalidValueError(
            f"The views {', '.join(SUPERVISED_VIEWS)} need `same_target_item_ids` in the "
            "input: for each sequence another one with the same target item. Received: "
            f"views={kind!r} and an input without it"
        )
    if kind == "un":
        first, second = encode(item_ids, item_ids)
        return Views(first, [(first, second)])
    if kind == "su":
        first, same = encode(item_ids, same_target_item_ids)
        return Views(first, [(first, same)])
    if kind == "us":
        first, second, same = encode(item_ids, item_ids, same_target_item_ids)
        return Views(first, [(first, second), (first, same)])
    if kind == "us_x":
        first, second, same = encode(item_ids, item_ids, same_target_item_ids)
        return Views(first, [(second, same)])
    if kind == "augment" and augment is not None:
        a, b = augment(item_ids)
        first, view_a, view_b = encode(item_ids, a, b)
        return Views(first, [(view_a, view_b)])
    (first,) = encode(item_ids)
    return Views(first, [])


def num_passes(kind: str | None) -> int:
    """How many batches :func:`make_views` encodes, by the kind; 1 for None.

    Raises:
        InvalidValueError: There is no such kind.
    """
    if kind is not None:
        check_choice("views", kind, VIEWS)
    return _PASSES[kind]
