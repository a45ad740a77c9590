"""`adaptiverec batch-recommend`: recommendations for everybody in a prepared directory."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from cyclopts import Parameter

from adaptiverec.pipeline.quiet_import import quiet_import

__all__ = ["batch_recommend"]


def batch_recommend(
    *,
    model: str,
    data: str,
    output: str,
    k: Annotated[int, Parameter(name=("-k", "--k"))] = 10,
    history: Literal["all", "before_test", "before_validation"] = "all",
    exclude_history: bool = True,
    exclude_file: str | None = None,
    allow_file: str | None = None,
    match: Literal["vocabulary", "data", "nothing"] = "vocabulary",
    format: Literal["parquet", "tfrecord"] = "parquet",
    num_shards: int | None = None,
    batch_size: int = 256,
    beam_options: list[str] | None = None,
) -> dict[str, Any]:
    """Recommends items to every user of a prepared directory, with a Beam job.

    It asks the signature `recommend` of the exported SavedModel, as a server does, so
    answers are the server's. Users are streamed: a worker holds the model and a batch.
    The output directory appears whole or not at all, and is never overwritten; see
    :mod:`adaptiverec.serving.batch_contract`.

    Args:
        model: A version that `adaptiverec export` made, or a base path, whose newest
            version is taken. A path that every worker can open.
        data: A directory that `adaptiverec prepare` made. Its users need not be those
            that the model was trained on.
        output: Directory to write. It must not exist yet.
        k: How many items to recommend.
        history: What counts as a user's history: `all` of the sequence; what is
            `before_test` targets; or what is `before_validation` targets, the training
            part.
        exclude_history: Whether to leave out what is in the user's history.
        exclude_file: Text file, UTF-8, with a raw item id a line, which nobody gets.
        allow_file: Likewise; nothing but these items is recommended.
        match: What the data must have in common with what the model was trained on. By
            default the vocabulary: the same, or one that `--base-vocabulary` has grown
            from it, whose new items are skipped as unknown; sequences may be others.
            `data` asks for the very same data, by its fingerprint, and `nothing` for
            nothing: the model skips items that it does not know.
        format: Parquet, or TFRecord files of `tf.train.Example` protos.
        num_shards: Number of files. By default one for each 16,384 users.
        batch_size: The most users to ask the model for at once.
        beam_options: Flags of Beam itself, such as `--runner=FlinkRunner`. The default
            runner uses all cores of this machine.

    Returns:
        The content of the output's `metadata.json`: counts, options, fingerprints of
        model and data, files and their SHA-256.

    Raises:
        InvalidValueError: An argument is outside its rule.
        NotFoundError: There is no such model, data or file.
        ContractError: Model or data is not whole, was altered, or they do not match.
        OutputExistsError: The output is already there.
        OutputError: The output cannot be written.
        StageError: The job did not come to its end; nothing is published then.
    """
    from adaptiverec.serving.batch_options import BatchOptions

    options = BatchOptions.checked(
        model=model,
        data=data,
        output=output,
        k=k,
        history=history,
        exclude_history=exclude_history,
        exclude_file=exclude_file,
        allow_file=allow_file,
        match=match,
        format=format,
        num_shards=num_shards,
        batch_size=batch_size,
        beam_options=beam_options,
    )
    # Only here: Beam and TensorFlow take seconds to import.
    with quiet_import():
        from adaptiverec.serving.batch_driver import run_batch_job

    return run_batch_job(options)
