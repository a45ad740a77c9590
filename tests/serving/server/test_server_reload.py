"""Several models, their policies and labels, and going over from some to others."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2
from tensorflow_serving.config import model_server_config_pb2

from adaptiverec.common.errors import NotFoundError, StageError
from adaptiverec.serving.server import ModelServer

State = get_model_status_pb2.ModelVersionStatus.State
INVALID = grpc.StatusCode.INVALID_ARGUMENT
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


def config_of(*models):
    """A list of models, each the text of a ModelConfig on the platform "tensorflow"."""
    config = model_server_config_pb2.ModelServerConfig()
    config.model_config_list.SetInParent()
    for text in models:
        model = config.model_config_list.config.add(model_platform="tensorflow")
        text_format.Merge(text, model)
    return config


def model(name, base, more=""):
    return f'name: "{name}" base_path: "{base}" {more}'


def reload(caller, *models, config=None):
    request = model_management_pb2.ReloadConfigRequest(
        config=config_of(*models) if config is None else config
    )
    return caller.models.HandleReloadConfigRequest(request, timeout=60)


def refused(caller, *models, config=None):
    with pytest.raises(grpc.RpcError) as caught:
        reload(caller, *models, config=config)
    return caught.value.code(), caught.value.details()


def states(caller, name):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    response = caller.models.GetModelStatus(request, timeout=30)
    return [(entry.version, entry.state) for entry in response.model_version_status]


def number(caller, helpers, name, version=None, label=None):
    request = helpers.predict_request(model=name, version=version)
    if label is not None:
        request.model_spec.version_label = label
    response = caller.prediction.Predict(request, timeout=30)
    assert response.model_spec.name == name
    return response.model_spec.version.value, response.outputs["number"].float_val[0]


@pytest.fixture
def bases(publish, tmp_path):
    """Two base paths: "a" with the versions 1, 2 and 3, "b" with version 7."""
    for version in (1, 2, 3):
        publish(tmp_path / "a", version, number=version)
    publish(tmp_path / "b", 7, number=7)
    return tmp_path


@pytest.fixture
def serving(bases, tmp_path, new_caller):
    """Starts servers of a file of models; gives the server and a client."""
    started = []

    def start_server(*models, **flags):
        file = tmp_path / "models.config"
        file.write_text(text_format.MessageToString(config_of(*models)))
        options = {"port": 0, "max_num_load_retries": 0, **flags}
        options.setdefault("file_system_poll_wait_seconds", 0.05)
        server = ModelServer(model_config_file=str(file), **options)
        server.start()
        started.append((server, new_caller(server.port)))
        return started[-1]

    yield start_server
    for server, caller in started:
        caller.channel.close()
        server.stop(grace=0)


def test_several_models_with_their_policies(serving, bases, helpers):
    _, caller = serving(
        model("a", bases / "a", "model_version_policy { latest { num_versions: 2 } }"),
        model("b", bases / "b"),
        model("c", bases / "a", "model_version_policy { specific { versions: 1 } }"),
    )
    assert number(caller, helpers, "a") == (3, 3.0)
    assert number(caller, helpers, "b") == (7, 7.0)
    assert number(caller, helpers, "c") == (1, 1.0)
    # A model is there when one version is; the others come after.
    both = [(3, State.AVAILABLE), (2, State.AVAILABLE)]
    helpers.wait_until(lambda: states(caller, "a") == both)
    assert number(caller, helpers, "a", version=2) == (2, 2.0)
    assert states(caller, "c") == [(1, State.AVAILABLE)]
    request = helpers.predict_request(model="a", version=1)
    assert caller.refusal(request) == (
        grpc.StatusCode.NOT_FOUND,
        "Servable not found for request: Specific(a, 1)",
    )


def test_reload_adds_changes_and_removes(serving, bases, helpers):
    _, caller = serving(model("a", bases / "a"))
    response = reload(caller, model("a", bases / "a"), model("b", bases / "b"))
    assert response.HasField("status")
    assert (response.status.error_code, response.status.error_message) == (0, "")
    assert number(caller, helpers, "b") == (7, 7.0)
    # Another base path and policy for the first, none of the second.
    every = "model_version_policy { all {} }"
    reload(caller, model("a", bases / "b", every))
    helpers.wait_until(
        lambda: states(caller, "a") == [(7, State.AVAILABLE), (3, State.END)]
    )
    assert number(caller, helpers, "a") == (7, 7.0)
    # What was there is remembered, and not to be had.
    helpers.wait_until(lambda: states(caller, "b") == [(7, State.END)])
    assert caller.refusal(helpers.predict_request(model="b")) == (
        grpc.StatusCode.NOT_FOUND,
        "Servable not found for request: Latest(b)",
    )
    reload(caller, model("b", bases / "b"))
    assert number(caller, helpers, "b") == (7, 7.0)
    # No model at all is a configuration, too.
    reload(caller)
    helpers.wait_until(lambda: states(caller, "b") == [(7, State.END)])


def test_reload_waits_for_new_models_and_tells_of_broken_ones(
    serving, bases, publish, helpers
):
    _, caller = serving(model("a", bases / "a"))
    (publish(bases / "broken", 4) / "saved_model.pb").write_bytes(b"x")
    code, message = refused(
        caller, model("a", bases / "a"), model("broken", bases / "broken")
    )
    assert code == grpc.StatusCode.UNKNOWN
    assert message == (
        "1 model(s) did not become available: {{{name: broken version: 4} due to error: "
        f"DATA_LOSS: Can't parse {bases / 'broken' / '4' / 'saved_model.pb'} as binary "
        "proto}, }"
    )
    assert number(caller, helpers, "a") == (3, 3.0)
    publish(bases / "broken", 5, number=5)
    helpers.wait_until(lambda: (5, State.AVAILABLE) in states(caller, "broken"))


def test_each_model_that_fails_is_told_once(serving, bases, publish):
    every = "model_version_policy { all {} }"
    for name, version in (("z", 1), ("z", 2), ("c", 1)):
        (publish(bases / name, version) / "saved_model.pb").unlink()
    _, caller = serving(model("a", bases / "a"))
    code, message = refused(
        caller, model("z", bases / "z", every), model("c", bases / "c")
    )
    assert code == grpc.StatusCode.UNKNOWN
    why = "NOT_FOUND: Could not find SavedModel .pb or .pbtxt at supplied export "
    assert message.startswith(
        "2 model(s) did not become available: {{{name: c version: 1} due to error: "
        f"{why}directory path: {bases / 'c' / '1'}. Check"
    )
    assert "{{name: z version: 2} due to error" in message
    assert "z version: 1" not in message
    with pytest.raises(StageError, match=r"1 servable\(s\) did not become available"):
        serving(model("c", bases / "c"))


def test_one_good_version_is_enough(serving, bases, publish):
    (publish(bases / "b", 8) / "saved_model.pb").write_bytes(b"x")
    every = "model_version_policy { all {} }"
    _, caller = serving(model("b", bases / "b", every))
    assert states(caller, "b") == [(8, State.END), (7, State.AVAILABLE)]


@pytest.mark.parametrize(
    ("models", "code", "message"),
    [
        (
            [model("a", "{a}"), model("a", "{b}")],
            INVALID,
            "Illegal to list model a multiple times in config list",
        ),
        (
            [model("a", "models/a")],
            INVALID,
            "Expected model a to have an absolute path or URI; got base_path()=models/a",
        ),
        (
            [model("a", "")],
            INVALID,
            "Expected model a to have an absolute path or URI; got base_path()=",
        ),
        (
            [model("a", "{a}", 'model_platform: "caffe"')],
            INVALID,
            "Illegal to change a model's platform. For model a platform was tensorflow "
            "and new platform requested is caffe",
        ),
        (
            [model("b", "{b}", 'model_platform: "caffe"')],
            INVALID,
            "Model b requests unsupported platform caffe",
        ),
        (
            [model("b", "{b}", 'model_platform: ""')],
            INVALID,
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            "ModelServerConfig::model_platform.",
        ),
        (
            [model("b", "{b}", "model_type: TENSORFLOW")],
            INVALID,
            "Illegal setting both ModelServerConfig::model_type (deprecated) and "
            "ModelServerConfig::model_platform.",
        ),
        (
            [model("b", "{b}", "version_labels { key: 'stable' value: 7 }")],
            PRECONDITION,
            "Request to assign label to version 7 of model b, which is not currently "
            "available for inference",
        ),
        (
            # Of two reasons, tensorflow_model_server's first.
            [
                model(
                    "b",
                    "{b}",
                    "model_platform: '' version_labels { key: 'x' value: 7 }",
                )
            ],
            PRECONDITION,
            "Request to assign label to version 7 of model b",
        ),
        (
            [
                model(
                    "a",
                    "{a}",
                    "model_platform: '' version_labels { key: 'x' value: 9 }",
                )
            ],
            INVALID,
            "Illegal setting neither ModelServerConfig::model_type",
        ),
        (
            [model("b", "gs://bucket/b")],
            INVALID,
            "Expected model b to lie in a local file system; got "
            "base_path()=gs://bucket/b",
        ),
    ],
)
def test_what_reload_refuses_changes_nothing(
    caller, toy_server, tmp_path, models, code, message
):
    def filled(text):
        for name in ("a", "b"):
            text = text.replace(f"{{{name}}}", str(tmp_path / name))
        return text

    ours = model("a", toy_server._flags.model_base_path)
    reload(caller, ours)
    received = refused(caller, *map(filled, models))
    assert received[0] == code
    assert received[1].startswith(filled(message))
    reload(caller, ours)
    assert states(caller, "a") == [(7, State.AVAILABLE)]


def test_reload_tells_how_metrics_have_grown(serving, bases, helpers):
    attempts = "/tensorflow/cc/saved_model/load_attempt_count"

    def grown(*models):
        request = model_management_pb2.ReloadConfigRequest(
            config=config_of(*models),
            metric_names=[attempts, "/no/such/metric", attempts],
        )
        response = caller.models.HandleReloadConfigRequest(request, timeout=60)
        assert len(response.metric) == 2
        return {metric.name: metric.int64_value_increase for metric in response.metric}

    _, caller = serving(model("a", bases / "a"))
    # Of the counters, tensorflow_model_server tells the first: that of "a".
    told = {attempts: 0, "/no/such/metric": 0}
    assert grown(model("b", bases / "b")) == told
    helpers.wait_until(lambda: states(caller, "a") == [(3, State.END)])
    assert grown(model("a", bases / "a")) == {**told, attempts: 1}
    assert not reload(caller, model("a", bases / "a")).metric


def test_requests_cannot_be_logged(serving, bases, helpers):
    logged = "logging_config { sampling_config { sampling_rate: 1 } }"
    message = "No request-logger-creator provided."
    _, caller = serving(model("a", bases / "a"))
    assert refused(caller, model("b", bases / "b", logged)) == (INVALID, message)
    # Only then: the models are the new ones.
    assert number(caller, helpers, "b") == (7, 7.0)
    helpers.wait_until(lambda: states(caller, "a") == [(3, State.END)])
    with pytest.raises(StageError, match=message):
        serving(model("a", bases / "a", logged))


def test_reload_may_need_versions(serving, bases, tmp_path):
    (tmp_path / "empty").mkdir()
    _, caller = serving(model("a", bases / "a"), fail_if_no_model_versions_found=True)
    code, message = refused(caller, model("b", tmp_path / "none"))
    assert code == INVALID
    nowhere = f"Could not find base path {tmp_path / 'none'} for servable b with error "
    assert message.startswith(nowhere)
    assert refused(caller, model("b", tmp_path / "empty")) == (
        grpc.StatusCode.NOT_FOUND,
        "Unable to find a numerical version path for servable b at: "
        f"{tmp_path / 'empty'}",
    )
    assert states(caller, "a") == [(3, State.AVAILABLE)]


def test_reload_waits_for_a_version_as_long_as_the_caller(
    serving, bases, publish, helpers, tmp_path
):
    _, caller = serving(model("a", bases / "a"))
    config = config_of(model("a", bases / "a"), model("new", tmp_path / "new"))
    request = model_management_pb2.ReloadConfigRequest(config=config)
    waiting = caller.models.HandleReloadConfigRequest.future(request, timeout=60)
    helpers.wait_until(lambda: not waiting.done() and number(caller, helpers, "a"))
    assert waiting.cancel()
    # Nobody waits any more, so the next one gets its turn; "new" is still looked for.
    reload(caller, model("a", bases / "a"), model("new", tmp_path / "new"))
    publish(tmp_path / "new", 5, number=2)

    def is_there():
        try:
            return states(caller, "new") == [(5, State.AVAILABLE)]
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return False
            raise

    helpers.wait_until(is_there)
    assert number(caller, helpers, "new") == (5, 2.0)


def test_reload_wants_a_list_of_models(caller):
    message = (
        "ServerModelConfig type not supported by HandleReloadConfigRequest. Only "
        "ModelConfigList is currently supported"
    )
    config = model_server_config_pb2.ModelServerConfig()
    assert refused(caller, config=config) == (INVALID, message)
    config.custom_model_config.SetInParent()
    assert refused(caller, config=config) == (INVALID, message)


STABLE = "version_labels {{ key: 'stable' value: {} }}"
TWO = "model_version_policy { latest { num_versions: 2 } }"


def test_labels(serving, bases, helpers):
    _, caller = serving(model("a", bases / "a", TWO))
    helpers.wait_until(lambda: (2, State.AVAILABLE) in states(caller, "a"))
    reload(caller, model("a", bases / "a", TWO + STABLE.format(2)))
    assert number(caller, helpers, "a", label="stable") == (2, 2.0)
    assert number(caller, helpers, "a") == (3, 3.0)
    reload(caller, model("a", bases / "a", TWO + STABLE.format(3)))
    assert number(caller, helpers, "a", label="stable") == (3, 3.0)
    # A version that is not there; the label stays where it was.
    code, _ = refused(caller, model("a", bases / "a", TWO + STABLE.format(1)))
    assert code == PRECONDITION
    assert number(caller, helpers, "a", label="stable") == (3, 3.0)
    request = helpers.predict_request(model="a")
    request.model_spec.version_label = "canary"
    unknown = (INVALID, "Unrecognized servable version label: canary")
    assert caller.refusal(request) == unknown
    request.model_spec.name = "nobody"
    assert caller.refusal(request) == unknown


def test_labels_of_unavailable_versions_where_told_so(serving, bases, helpers):
    _, caller = serving(
        model("a", bases / "a", STABLE.format(3)),
        allow_version_labels_for_unavailable_models=True,
    )
    assert number(caller, helpers, "a", label="stable") == (3, 3.0)
    # Only labels that are not in use.
    code, _ = refused(caller, model("a", bases / "a", STABLE.format(9)))
    assert code == PRECONDITION


def test_a_label_needs_a_version_at_the_start(serving, bases):
    with pytest.raises(StageError, match="Request to assign label to version 3"):
        serving(model("a", bases / "a", STABLE.format(3)))


def test_the_file_is_looked_at_again(serving, bases, helpers, tmp_path, caplog):
    _, caller = serving(
        model("a", bases / "a"), model_config_file_poll_wait_seconds=0.05
    )
    file = tmp_path / "models.config"
    file.write_text("model_config_list {")
    helpers.wait_until(lambda: "model_config_file must be a file" in caplog.text)
    for _ in range(100):
        assert number(caller, helpers, "a") == (3, 3.0)
    wrong = config_of(model("a", "relative"))
    file.write_text(text_format.MessageToString(wrong))
    helpers.wait_until(lambda: "INVALID_ARGUMENT: Expected model a" in caplog.text)
    right = config_of(model("b", bases / "b"))
    file.write_text(text_format.MessageToString(right))
    helpers.wait_until(lambda: states(caller, "a") == [(3, State.END)])
    helpers.wait_until(lambda: states(caller, "b") == [(7, State.AVAILABLE)])
    # A mistake is told once, however often it is seen.
    assert caplog.text.count("INVALID_ARGUMENT: Expected model a") == 1


def test_a_server_may_wait_for_its_first_version(
    tmp_path, publish, helpers, new_caller
):
    server = ModelServer(
        model_base_path=tmp_path / "base",
        model_name="toy",
        port=0,
        file_system_poll_wait_seconds=0.05,
    )
    starting = helpers.in_background(server.start)
    assert starting.is_alive()
    publish(tmp_path / "base", 1)
    starting.join(60)
    assert new_caller(server.port).number() == (1, 1.0)
    server.stop(grace=0)


def test_a_server_that_never_looks_waits_for_ever(publish, tmp_path, helpers):
    publish(tmp_path / "base", 1)
    server = ModelServer(
        model_base_path=tmp_path / "base", port=0, file_system_poll_wait_seconds=-1
    )
    failures = []

    def run():
        try:
            server.start()
        except StageError as error:
            failures.append(str(error))

    starting = helpers.in_background(run)
    helpers.wait_until(lambda: server._core is not None and server._core._managers)
    starting.join(0.5)
    assert starting.is_alive()
    assert server.port == 0
    server.stop(grace=0)
    starting.join(30)
    assert "The server is being stopped" in failures[0]


def test_stopping_ends_the_wait_for_a_first_version(tmp_path, helpers):
    server = ModelServer(
        model_base_path=tmp_path / "base",
        port=0,
    )
    problems = []

    def start():
        try:
            server.start()
        except StageError as error:
            problems.append(str(error))

    starting = helpers.in_background(start)
    helpers.wait_until(lambda: server._core is not None and server._core._managers)
    server.stop(grace=0)
    starting.join(60)
    assert not starting.is_alive()
    assert "is being stopped" in problems[0]


def test_a_file_of_models_that_is_not_there(tmp_path):
    with pytest.raises(NotFoundError, match="model_config_file must be a file"):
        ModelServer(model_config_file=str(tmp_path / "none"), port=0).start()
