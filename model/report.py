"""`adaptiverec report`: one page on a training run."""

from __future__ import annotations

from typing import Literal

__all__ = ["report"]


def report(
    run: str,
    *,
    data: str | None = None,
    output: str | None = None,
    part: Literal["validation", "test"] = "validation",
) -> str:
    """Makes a page on a training run: RUN/report.html.

    Loss and measures by epoch, measures by length of the history and by popularity of the
    target with 95 % confidence intervals, thresholds and the positives that they make,
    in-batch similarities, alignment and uniformity, a map of the embeddings and their
    singular values, some users with what is recommended to them, the configuration and
    the fingerprint of the data. The page needs no network. It works for a run that was
    stopped or is still going on; making it again replaces it.

    Args:
        run: Directory of a run.
        data: The prepared directory that the run was trained on; by default where it was
            then. Without it, what ranks targets is left out, and the page says so.
        output: HTML file to write; by default RUN/report.html.
        part: Whose targets are ranked. Choose between models by the validation's, and look
            at those of the test at the end.

    Returns:
        The path of the page.

    Raises:
        NotFoundError: The run or the given data does not exist.
        ContractError: The run is of another schema version, or the given data is not
            that of its training.
        OutputError: The output cannot be written.
        InvalidValueError: `part` is no such part.
    """
    # TensorFlow takes seconds to import; `--help` and wrong options need not wait for it.
    from pathlib import Path

    from adaptiverec.common.checks import check_choice
    from adaptiverec.common.errors import OutputError
    from adaptiverec.common.files import write_text
    from adaptiverec.common.progress import say, steps
    from adaptiverec.model import run as run_contract
    from adaptiverec.model.report_page import make_page

    check_choice("part", part, ("validation", "test"))
    trained = run_contract.Run.open(run)
    path = Path(output) if output is not None else trained.path / run_contract.REPORT
    if path.is_dir() or not path.parent.is_dir():
        raise OutputError(
            f"The output must be a file, whose directory must exist. Received: {path}"
        )
    with steps() as progress:
        page = make_page(trained, data, part, progress)
    try:
        write_text(path, page)
    except OSError as error:
        raise OutputError(
            f"The output must be a file that can be written. Received: {path} ({error})"
        ) from error
    say(f"Report written: {path}")
    return str(path)
