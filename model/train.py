"""`adaptiverec train`: from prepared data to a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

__all__ = ["train"]


def train(
    *,
    data: str,
    output: str,
    epochs: int = 100,
    batch_size: int = 1024,
    max_length: int = 50,
    instances: Literal["prefixes", "sequences"] = "prefixes",
    stream: bool = False,
    objective: Literal["adaptive", "info_nce", "none"] = "adaptive",
    views: Literal["us_x", "us", "su", "un", "augment"] = "us_x",
    seed: int = 0,
    resume: bool = False,
    learning_rate: float = 1e-3,
    schedule: Literal["constant", "cosine"] = "constant",
    warmup_epochs: float = 0.0,
    weight_decay: float = 0.0,
    patience: int = 10,
    validation_users: int | None = None,
    hidden_dim: int = 64,
    num_blocks: int = 2,
    num_heads: int = 2,
    inner_dim: int = 256,
    dropout: float = 0.5,
    positions_from: Literal["start", "end"] = "start",
    low_pass_share: float = 0.0,
    low_pass_frequencies: int = 3,
    next_item: Literal["softmax", "sampled_softmax", "gbce"] = "softmax",
    next_item_candidates: Literal["all", "unseen"] = "all",
    label_smoothing: float = 0.0,
    num_negatives: int = 2048,
    gbce_calibration: float = 0.75,
    similarity: Literal["cosine", "dot"] | None = None,
    temperature: float = 1.0,
    contrastive_weight: float = 0.1,
    threshold_weight: float = 0.1,
    threshold_target: Literal["quantile", "median", "mean"] = "quantile",
    threshold_quantile: float = 0.9,
    threshold_start: float = 0.0,
    pair_weights: Literal["outside", "inside"] = "outside",
    denominator: Literal["negatives", "all"] = "negatives",
    assignment: Literal["hard", "soft"] = "hard",
    assignment_temperature: float = 0.1,
    exclude_seen: bool = False,
) -> dict[str, Any]:
    """Trains a model on prepared data.

    After each epoch the validation
    targets are ranked in the whole catalogue; the model kept is that of the epoch with
    the best NDCG@10, and training stops when that has not risen for `patience` epochs.
    Without validation targets it runs all epochs and keeps the last.

    Where there are no more cores than views, TensorFlow's operations have one thread each,
    in the whole process, unless TF_NUM_INTRAOP_THREADS says how many.

    Args:
        data: A prepared directory.
        output: The run directory to make.
        epochs: At most so many epochs.
        batch_size: Instances a batch. The contrast is within the batch, so quality
            depends on it, not speed alone.
        max_length: The last so many items of a history are seen.
        instances: prefixes: each prefix of a user's training part is an instance, whose
            target is the item after it. sequences: each user is one, or several where
            they have more items than max_length, with a target at every position; an
            epoch is sooner done, and batches want to be smaller.
        stream: Read the sequences from their files in every epoch instead of holding them
            in memory, for logs that do not fit. The order is less random then, and
            sequences of the same target are drawn from fewer.
        objective: The contrastive loss: adaptive (AdaptiveRec), info_nce (DuoRec, or with
            --views augment CL4SRec) or none (SASRec).
        views: What is contrasted: us_x, us, su, un (dropout masks and sequences of the
            same target) or augment (crop, mask, reorder).
        seed: Of weights, order, dropout and draws. Equal seeds give equal runs.
        resume: Go on with the run in `output`, after its last finished epoch; the
            configuration must be the same, but for `epochs` (unless the schedule ends
            with them) and `patience`.
        learning_rate: Of Adam; the highest one of a schedule.
        schedule: Of the learning rate: constant, or cosine, down to 0 at the end of
            `epochs`.
        warmup_epochs: Over so many epochs the learning rate rises from 0.
        weight_decay: Of AdamW, for embeddings and matrices; 0 is plain Adam.
        patience: Epochs without a better validation NDCG@10 before training stops.
        validation_users: Validate by so many users at most, drawn once, instead of by all,
            where there are millions.
        hidden_dim: Size of the embeddings.
        num_blocks: Transformer blocks.
        num_heads: Attention heads; divides hidden_dim.
        inner_dim: Units of the feed-forward networks.
        dropout: Rate, for embeddings, attention and sublayers alike.
        positions_from: Which end of a sequence the place of an item is counted from.
        low_pass_share: Share of a low-pass filter beside attention in each block.
        low_pass_frequencies: How many of the lowest frequencies it keeps.
        next_item: The next-item loss: softmax over the whole catalogue; sampled_softmax
            or gbce over `num_negatives` items drawn for each batch, for catalogues that
            are too large for it. sampled_softmax draws low ids more often, as befits a
            vocabulary in the order of frequency.
        next_item_candidates: Of the softmax: all items, or those that are unseen, not
            among the last `max_length` items of the history, and the target; for use with
            `exclude_seen`.
        label_smoothing: Of the softmax over all items: share of the label that all items
            have alike, against overfitting.
        num_negatives: How many, of sampled_softmax and gbce.
        gbce_calibration: Of gbce: 0 is plain binary cross-entropy, 1 fully calibrated.
        similarity: By default cosine for adaptive, dot for info_nce.
        temperature: Divides similarities.
        contrastive_weight: Of the contrastive loss in the total.
        threshold_weight: Of the thresholds' regulariser in the contrastive loss.
        threshold_target: What thresholds are held to: this statistic of the in-batch
            similarities of the previous epoch.
        threshold_quantile: Which quantile.
        threshold_start: What thresholds are before they are trained; at 0 they take every
            second pair for a positive, at 1 none.
        pair_weights: Weights of positives outside or inside the logarithm.
        denominator: Sums over the negatives or over all pairs.
        assignment: Hard or soft membership of the positives.
        assignment_temperature: Of the soft assignment.
        exclude_seen: Validate with the items of the history out of the ranking.

    Returns:
        The run's record, as in `run.json`.

    Raises:
        NotFoundError: No such prepared directory, or no run to resume.
        OutputExistsError: The output exists and `resume` is not set.
        ContractError: The data is not whole, or not that of the run to resume.
        InvalidValueError: An argument is outside its rule.
        StageError: The loss became infinite or not a number.
    """
    configuration = {
        name: value
        for name, value in locals().items()
        if name not in ("data", "output", "resume")
    }
    # TensorFlow takes seconds to import; `--help` and wrong options need not wait for it.
    from adaptiverec.model.training_loop import run_training

    return run_training(
        data=data, output=Path(output), resume=resume, configuration=configuration
    )
