"""The console command: a thin edge over the functions of the stages.

Each subcommand *is* one of those functions; its options, defaults and help are the
function's own signature and docstring. Their modules load TensorFlow or Beam only when
they are called.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, ArgumentCollection, Parameter
from cyclopts.config import Yaml

from adaptiverec.common.demo import demo
from adaptiverec.common.errors import AdaptiveRecError, NotFoundError
from adaptiverec.model.evaluate import evaluate, print_report
from adaptiverec.model.report import report
from adaptiverec.model.train import train
from adaptiverec.model.tune import print_trials, tune
from adaptiverec.pipeline import prepare
from adaptiverec.serving.batch_recommend import batch_recommend
from adaptiverec.serving.export import export
from adaptiverec.serving.load_test import loadtest
from adaptiverec.serving.recommend import recommend
from adaptiverec.serving.server import serve

__all__ = ["app", "main"]

# 130 is what a shell reports of a program that Ctrl-C ended.
_INTERRUPTED = 130


def _command(
    function: Callable[..., Any],
    show: Callable[[Any], None] | None = None,
    *,
    needs_tensorflow: bool = False,
) -> Callable[..., None]:
    """The function as a command, which shows its result or nothing, and returns nothing.

    Args:
        function: One of the stages' functions.
        show: What to do with its result; by default nothing, since all there is to say
            has been said on the way.
        needs_tensorflow: Whether it loads TensorFlow.
    """

    @functools.wraps(function)
    def command(*args: Any, **kwargs: Any) -> None:
        if needs_tensorflow:
            _import_tensorflow_quietly()
        result = function(*args, **kwargs)
        if show is not None:
            show(result)

    return command


def _import_tensorflow_quietly() -> None:
    """Imports TensorFlow without its start-up notes, which no setting of its own silences.

    They are written by C++ straight to the file descriptor, in every process, and would
    bury the command's own lines. What was written is shown if the import fails.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as notes:
        os.dup2(notes.fileno(), 2)
        try:
            import tensorflow as tf

            # Not the logical ones: that would make them, with the threads of TensorFlow's
            # defaults, and no session could have others any more.
            tf.config.list_physical_devices()
        except BaseException:
            notes.seek(0)
            os.write(stderr, notes.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _with_config_file(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the option `--config`; :func:`_read_config_file` has done its work before."""

    @functools.wraps(command)
    def with_config(*, config: str | None = None, **kwargs: Any) -> None:
        command(**kwargs)

    option = inspect.Parameter(
        "config",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            str | None,
            Parameter(
                help="YAML file of these options, named with underscores, such as a run's "
                "config.yaml. Options on the command line go before it."
            ),
        ],
    )
    signature = inspect.signature(command, eval_str=True)
    parameters = [*signature.parameters.values(), option]
    with_config.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=parameters
    )
    return with_config


def _read_config_file(
    app: App, commands: tuple[str, ...], arguments: ArgumentCollection
) -> None:
    """Fills options that the command line left out from the file of `--config`."""
    for argument in arguments:
        if "--config" in argument.names and argument.tokens:
            path = Path(argument.tokens[0].value)
            if not path.is_file():
                raise NotFoundError(f"--config must name a file. Received: {path}")
            Yaml(path, use_commands_as_keys=False, allow_unknown=False)(
                app, commands, arguments
            )
            return


def _server_version() -> str:
    return (
        f"AdaptiveRec ModelServer: {version('adaptiverec')}\n"
        f"TensorFlow Library: {version('tensorflow')}"
    )


def _print_load_report(report: dict[str, Any]) -> None:
    # It imports gRPC.
    from adaptiverec.serving.load_report import print_load_report

    print_load_report(report)


def _build_app() -> App:
    app = App(
        name="adaptiverec",
        help="From raw interaction logs to recommendations over gRPC.",
        version=version("adaptiverec"),
        # Lists are `--input a b` or `--input a --input b`.
        default_parameter=Parameter(consume_multiple=True, negative_iterable=()),
    )
    for name, command in (
        ("prepare", _command(prepare)),
        ("train", _command(train, needs_tensorflow=True)),
    ):
        with_file = App(name=name, config=_read_config_file)
        with_file.default(_with_config_file(command))
        app.command(with_file)
    app.command(_command(tune, print_trials, needs_tensorflow=True))
    app.command(_command(evaluate, print_report, needs_tensorflow=True))
    app.command(_command(report, needs_tensorflow=True))
    app.command(_command(export, needs_tensorflow=True))
    app.command(_command(batch_recommend, needs_tensorflow=True))
    # TensorFlow Serving's flags are written with underscores.
    serve_app = App(
        name="serve",
        version=_server_version,
        version_format="plaintext",
        # The image's entrypoint gives flags of its own, which those behind them overrule.
        default_parameter=Parameter(
            name_transform=lambda name: name, allow_repeating=True
        ),
    )
    serve_app.default(_command(serve, needs_tensorflow=True))
    app.command(serve_app)
    app.command(recommend)
    app.command(_command(loadtest, _print_load_report))
    app.command(demo)
    return app


app = _build_app()


def main(arguments: list[str] | None = None) -> None:
    """Runs the console command and exits.

    Exit codes: 0, done; 1, it could not be done; 2, the command line is wrong; 130,
    interrupted. An error that a user can mend is one line on standard error; any other
    is a bug and keeps its traceback.

    Args:
        arguments: The command line after the program's name; by default the process's.
    """
    try:
        app(arguments)
    except AdaptiveRecError as error:
        print(f"adaptiverec: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("adaptiverec"):
            raise
        print(
            "adaptiverec: error: Each stage's packages come with its extra: pip install "
            "'adaptiverec[pipeline]', '[train]', '[tune]', '[serving]', '[client]' or "
            "'[all]'. "
            f"Received: no module {error.name!r}",
            file=sys.stderr,
        )
        sys.exit(1)
    except KeyboardInterrupt:
        print("adaptiverec: interrupted", file=sys.stderr)
        sys.exit(_INTERRUPTED)
