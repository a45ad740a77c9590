"""How the server follows the versions under its base path."""

from __future__ import annotations

import shutil
import threading

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.config.file_system_storage_path_source_pb2 import (
    FileSystemStoragePathSourceConfig,
)

from adaptiverec.common.errors import NotFoundError, StageError
from adaptiverec.serving.model_manager import ModelManager
from adaptiverec.serving.server import ModelServer
from adaptiverec.serving.status import RequestError

State = get_model_status_pb2.ModelVersionStatus.State
INVALID = grpc.StatusCode.INVALID_ARGUMENT.value[0]
NOT_FOUND = grpc.StatusCode.NOT_FOUND.value[0]


@pytest.fixture
def base(tmp_path):
    return tmp_path / "base"


def break_saved_model(path):
    (path / "saved_model.pb").write_bytes(b"not a SavedModel")


def test_serves_the_newest_and_ignores_other_names(start, publish, base):
    publish(base, 2)
    # Newest by number, not by spelling.
    publish(base, 10, number=10)
    others = ["99x", "v100", "1e3", "11.0", ".12", "0x20", "--13", "- 14", "1 5"]
    others += ["\N{ARABIC-INDIC DIGIT NINE}9", "9" * 20, "-" + "9" * 20, "9" * 250]
    for name in others:
        (base / name).mkdir()
    # A number, though an older one.
    (base / "-11").mkdir()
    (base / "notes.txt").write_text("a file")
    _, caller = start(base)
    assert caller.number() == (10, 10.0)
    assert caller.statuses() == {10: (State.AVAILABLE, 0, "")}


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("007", 7),
        ("00000000000000000000000008", 8),
        ("+9", 9),
        (" 10", 10),
        ("-11", -11),
        ("9223372036854775807", 2**63 - 1),
        ("0", 0),
    ],
)
def test_a_number_may_be_written_in_several_ways(
    start, publish, base, helpers, name, version
):
    publish(base, 5).rename(base / name)
    _, caller = start(base)
    assert caller.number() == (version, 1.0)
    response = caller.prediction.Predict(helpers.predict_request(version=version))
    assert response.model_spec.version.value == version


def test_of_two_names_for_a_number_the_last_one_counts(start, publish, base):
    publish(base, 1, number=1).rename(base / "01")
    publish(base, 1, number=2)
    _, caller = start(base)
    assert caller.number() == (1, 2.0)


def test_what_has_a_number_but_is_no_directory_is_reported(
    start, publish, base, helpers
):
    publish(base, 1)
    _, caller = start(base)
    (base / "200").write_text("a file")
    helpers.wait_until(lambda: caller.statuses().get(200, (0,))[0] == State.END)
    (base / "300").symlink_to("300")
    helpers.wait_until(lambda: caller.statuses().get(300, (0,))[0] == State.END)
    reserving = "Error while attempting to reserve resources to load servable "
    assert caller.statuses() == {
        1: (State.AVAILABLE, 0, ""),
        200: (
            State.END,
            grpc.StatusCode.INTERNAL.value[0],
            f"{reserving}{{name: toy version: 200}}: {base / '200'}; Not a directory",
        ),
        300: (
            State.END,
            grpc.StatusCode.INTERNAL.value[0],
            f"{reserving}{{name: toy version: 300}}: {base / '300'} not found",
        ),
    }
    assert caller.number() == (1, 1.0)


def test_does_not_follow_a_link_out_of_the_base_path(
    start, publish, base, tmp_path, helpers, caplog
):
    publish(base, 1)
    outside = publish(tmp_path / "elsewhere", 1, number=2)
    (base / "2").symlink_to(outside)
    _, caller = start(base)
    assert caller.number() == (1, 1.0)
    publish(base, 3, number=3)
    helpers.wait_until(lambda: caller.number() == (3, 3.0))
    assert caplog.text.count("which leads out of the base path") == 1


def test_follows_links_within_the_base_path_and_to_it(start, publish, base, tmp_path):
    publish(base, 1, number=2).rename(base / "release-of-monday")
    (base / "2").symlink_to("release-of-monday")
    link = tmp_path / "link"
    link.symlink_to(base)
    _, caller = start(link)
    assert caller.number() == (2, 2.0)


def test_may_need_a_version_at_the_start(base):
    flags = {"model_base_path": base, "fail_if_no_model_versions_found": True}
    with pytest.raises(NotFoundError, match=r"must be a directory .*Received: .*base"):
        ModelServer(**flags, port=0).start()
    (base / "no-number").mkdir(parents=True)
    with pytest.raises(NotFoundError, match=r"at least one version.*Received: .*base"):
        ModelServer(**flags, port=0).start()


def test_a_broken_first_version_ends_the_start(publish, base):
    publish(base, 1)
    break_saved_model(publish(base, 2))
    server = ModelServer(model_base_path=base, port=0, max_num_load_retries=0)
    with pytest.raises(
        StageError, match=r"SavedModel that loads.*Received: .*version: 2\}"
    ):
        server.start()
    assert server.port == 0
    with pytest.raises(StageError, match="can be started once"):
        server.start()


def test_swaps_under_load_without_a_failed_request(start, publish, base, helpers):
    publish(base, 1)
    _, caller = start(base)
    seen, failures, stop = [], [], threading.Event()

    def load():
        while not stop.is_set():
            try:
                seen.append(caller.number())
            except grpc.RpcError as error:
                failures.append(error)

    threads = [helpers.in_background(load) for _ in range(4)]
    for version in (2, 3):
        publish(base, version, number=version)
        helpers.wait_until(lambda v=version: (v, float(v)) in seen)
    publish(base, 4, number=1)
    helpers.wait_until(lambda: (4, 1.0) in seen)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    # No answer says one version and comes from another.
    assert set(seen) == {(1, 1.0), (2, 2.0), (3, 3.0), (4, 1.0)}
    helpers.wait_until(
        lambda: (
            caller.statuses()
            == {
                4: (State.AVAILABLE, 0, ""),
                3: (State.END, 0, ""),
                2: (State.END, 0, ""),
                1: (State.END, 0, ""),
            }
        )
    )


def test_a_running_request_keeps_its_version(start, publish, base, helpers):
    publish(base, 1)
    _, caller = start(base)
    slow = helpers.predict_request("slow", seconds=tf.constant(3.0, tf.float64))
    call = caller.prediction.Predict.future(slow)
    publish(base, 2, number=2)
    helpers.wait_until(lambda: caller.number() == (2, 2.0))
    assert not call.done()
    assert caller.statuses()[1][0] == State.UNLOADING
    # Not for new requests, though.
    code, message = caller.refusal(helpers.predict_request(version=1))
    assert code == grpc.StatusCode.NOT_FOUND
    assert message == "Servable not found for request: Specific(toy, 1)"
    answer = call.result()
    assert answer.model_spec.version.value == 1
    assert answer.outputs["number"].float_val[0] == 1.0
    helpers.wait_until(lambda: caller.statuses()[1][0] == State.END)


def test_a_broken_version_leaves_the_old_one(start, publish, base, helpers):
    publish(base, 1)
    _, caller = start(base)
    broken = publish(base.parent / "aside", 2)
    break_saved_model(broken)
    broken.rename(base / "2")
    helpers.wait_until(lambda: caller.statuses().get(2, (0,))[0] == State.END)
    _, code, message = caller.statuses()[2]
    assert code == grpc.StatusCode.DATA_LOSS.value[0]
    broken = base / "2" / "saved_model.pb"
    assert message == f"Can't parse {broken} as binary proto"
    assert caller.number() == (1, 1.0)
    assert caller.statuses()[1] == (State.AVAILABLE, 0, "")
    # It does not stand in the way of the next.
    publish(base, 3, number=3)
    helpers.wait_until(lambda: caller.number() == (3, 3.0))


def test_an_empty_version_directory_is_reported(start, publish, base, helpers):
    publish(base, 1)
    _, caller = start(base)
    (base / "2").mkdir()
    helpers.wait_until(lambda: caller.statuses().get(2, (0,))[0] == State.END)
    assert caller.statuses()[2][1] == NOT_FOUND
    assert caller.number() == (1, 1.0)


def test_removing_the_newest_rolls_back(start, publish, base, helpers):
    publish(base, 1)
    publish(base, 2, number=2)
    _, caller = start(base)
    assert caller.number() == (2, 2.0)
    shutil.rmtree(base / "2")
    helpers.wait_until(lambda: caller.number() == (1, 1.0))
    helpers.wait_until(lambda: caller.statuses()[2] == (State.END, 0, ""))
    # And the same number may come back with something else in it.
    publish(base, 2, number=3)
    helpers.wait_until(lambda: caller.number() == (2, 3.0))


def test_the_last_version_that_works_goes_on(start, publish, base, helpers):
    publish(base, 1)
    publish(base, 2, number=2)
    _, caller = start(base)
    break_saved_model(base / "1")
    shutil.rmtree(base / "2")
    helpers.wait_until(lambda: caller.statuses().get(1, (0,))[0] == State.END)
    assert caller.number() == (2, 2.0)
    # Not even if the base path itself is away for a while.
    away = base.rename(base.with_name("away"))
    for _ in range(20):
        assert caller.number() == (2, 2.0)
    publish(away, 3, number=3)
    away.rename(base)
    helpers.wait_until(lambda: caller.number() == (3, 3.0))
    assert caller.statuses()[2][0] != State.AVAILABLE


def test_a_half_copied_version_is_not_touched(start, publish, base, toys, helpers):
    publish(base, 1)
    _, caller = start(base)
    aside = base / "2.tmp"
    aside.mkdir()
    shutil.copy(toys(2) / "saved_model.pb", aside)
    # The server looks at the base path many times before version 4 is there.
    publish(base, 4, number=4)
    helpers.wait_until(lambda: caller.number() == (4, 4.0))
    shutil.copytree(toys(2), aside, dirs_exist_ok=True)
    aside.rename(base / "5")
    helpers.wait_until(lambda: caller.number() == (5, 2.0))
    assert set(caller.statuses()) == {1, 4, 5}


def test_does_not_look_again_where_told_so(start, publish, base):
    publish(base, 1)
    server, caller = start(base, file_system_poll_wait_seconds=0)
    publish(base, 2, number=2)
    for _ in range(20):
        assert caller.number() == (1, 1.0)
    server.stop(grace=0)


def test_warms_up_before_it_serves(start, publish, base, helpers):
    publish(base, 1)
    _, caller = start(base)
    slow = helpers.warm_up_log(
        signature="slow", seconds=tf.constant(1.0, tf.float64), model="any"
    )
    publish(base, 2, number=2, warm_up=[slow])
    helpers.wait_until(lambda: caller.statuses().get(2, (0,))[0] == State.LOADING)
    # The warm-up takes a second, in which the old version goes on.
    while (state := caller.statuses()[2][0]) == State.LOADING:
        version, number = caller.number()
        assert version == number
    assert state == State.AVAILABLE
    assert caller.number() == (2, 2.0)


def test_a_failing_warm_up_fails_the_version(start, publish, base, helpers):
    publish(base, 1)
    _, caller = start(base)
    bad = helpers.warm_up_log(signature="", history=[["a"]], k=np.int32([0]))
    publish(base, 2, number=2, warm_up=[helpers.warm_up_log(), bad])
    helpers.wait_until(lambda: caller.statuses().get(2, (0,))[0] == State.END)
    _, code, message = caller.statuses()[2]
    assert code == INVALID
    assert "k must be at least 1. Received:] [0]" in message
    assert caller.number() == (1, 1.0)


def test_a_version_without_its_variables_fails(start, publish, base):
    path = publish(base, 1)
    shutil.rmtree(path / "variables")
    with pytest.raises(StageError, match=r"Received: .*DATA_LOSS: The graph has var"):
        start(base)


def test_warm_up_can_be_left_out(start, publish, base, helpers):
    bad = helpers.warm_up_log(signature="x")
    publish(base, 1, warm_up=[bad])
    _, caller = start(base, enable_model_warmup=False)
    assert caller.number() == (1, 1.0)


def test_warm_up_files_that_are_not(start, publish, base, helpers):
    log = helpers.warm_up_log()
    session_run = helpers.warm_up_log()
    session_run.session_run_log.SetInParent()
    path = publish(base, 1, warm_up=1001 * [log])
    with pytest.raises(StageError, match=r"exceeds the maximum \(1000\)"):
        start(base)
    helpers.write_warm_up(path, [b"no PredictionLog"])
    with pytest.raises(StageError, match="Failed to parse warmup record"):
        start(base)
    helpers.write_warm_up(path, [session_run.SerializeToString()])
    with pytest.raises(StageError, match="UNIMPLEMENTED: Unsupported log_type"):
        start(base)
    file = path / "assets.extra" / "tf_serving_warmup_requests"
    file.write_bytes(b"no TFRecord file at all")
    with pytest.raises(StageError, match=r"DATA_LOSS: .*in TFRecord format"):
        start(base)
    helpers.write_warm_up(path, 1000 * [log.SerializeToString()])
    _, caller = start(base)
    assert caller.number() == (1, 1.0)


class Loaded:
    def __init__(self):
        self.closed = threading.Event()

    def close(self):
        self.closed.set()


Policy = FileSystemStoragePathSourceConfig.ServableVersionPolicy


@pytest.fixture
def manage(tmp_path):
    """Starts managers of versions that are empty directories."""
    managers = []

    def start_manager(load, policy=None, **options):
        options = {"poll_wait_seconds": 0.01, "load_retry_seconds": 0.01, **options}
        manager = ModelManager("toy", load, **options)
        managers.append(manager)
        manager.follow(tmp_path, policy or Policy())
        return manager

    yield start_manager
    for manager in managers:
        manager.close()


def states(manager):
    return {status.version: status.state for status in manager.statuses()}


def make(path, *versions):
    for version in versions:
        (path / str(version)).mkdir()


def test_a_version_that_failed_to_load_is_tried_again(tmp_path, manage, helpers):
    make(tmp_path, 1)
    tries = []

    def load(version, path):
        tries.append(version)
        if version == 2 and tries.count(2) < 3:
            # It is not over yet.
            assert states(manager)[2] == State.LOADING
            raise RequestError(grpc.StatusCode.UNAVAILABLE, "not now")
        return Loaded()

    manager = manage(load)
    assert manager.wait() == []
    make(tmp_path, 2)
    helpers.wait_until(lambda: states(manager).get(2) == State.AVAILABLE)
    assert tries == [1, 2, 2, 2]


def test_a_version_that_cannot_load_is_let_be_in_the_end(tmp_path, manage, helpers):
    make(tmp_path, 1)
    tries = []

    def load(version, path):
        tries.append(version)
        if version == 2:
            raise ZeroDivisionError("a bug of an op")
        return Loaded()

    manager = manage(load, max_load_retries=2)
    manager.wait()
    make(tmp_path, 2)
    helpers.wait_until(lambda: states(manager).get(2) == State.END)
    assert tries == [1, 2, 2, 2]
    assert states(manager)[1] == State.AVAILABLE
    # Until it is taken away and put there anew.
    (tmp_path / "2").rename(tmp_path / "3")
    helpers.wait_until(lambda: 3 in tries)
    assert tries == [1, 2, 2, 2, 3]
    broken = manager.statuses()[1]
    assert (broken.version, broken.state) == (2, State.END)
    assert broken.code == grpc.StatusCode.UNKNOWN
    assert broken.message == "ZeroDivisionError: a bug of an op"


def test_a_newer_version_does_not_wait_for_the_retries_of_a_broken_one(
    tmp_path, manage, helpers
):
    make(tmp_path, 1)

    def load(version, path):
        if version == 2:
            raise RequestError(grpc.StatusCode.DATA_LOSS, "broken")
        return Loaded()

    manager = manage(load, load_retry_seconds=1e6)
    manager.wait()
    make(tmp_path, 2)
    helpers.wait_until(lambda: states(manager).get(2) == State.LOADING)
    make(tmp_path, 3)
    helpers.wait_until(lambda: states(manager).get(3) == State.AVAILABLE)
    helpers.wait_until(
        lambda: states(manager) == {1: State.END, 2: State.END, 3: State.AVAILABLE}
    )
    assert manager.statuses()[1].message == "broken"


def test_waiting_ends_when_all_that_was_found_has_failed(tmp_path, manage):
    make(tmp_path, 1, 2)

    def load(version, path):
        raise RequestError(grpc.StatusCode.DATA_LOSS, f"broken {version}")

    policy = Policy()
    policy.all.SetInParent()
    manager = manage(load, policy, max_load_retries=1)
    assert [status.message for status in manager.wait()] == ["broken 2", "broken 1"]


def test_the_old_version_is_closed_by_its_last_request(tmp_path, manage, helpers):
    make(tmp_path, 1)
    loaded = {}

    def load(version, path):
        assert path == tmp_path / str(version)
        loaded[version] = Loaded()
        return loaded[version]

    manager = manage(load)
    manager.wait()
    with manager.use() as outer:
        with manager.use(1) as inner:
            assert inner is outer is loaded[1]
            make(tmp_path, 2)
            helpers.wait_until(lambda: states(manager).get(1) == State.UNLOADING)
            with manager.use() as new:
                assert new is loaded[2]
            with pytest.raises(RequestError, match=r"Specific\(toy, 1\)"):
                manager.use(1).__enter__()
        assert states(manager)[1] == State.UNLOADING
        assert not loaded[1].closed.wait(0.1)
    assert loaded[1].closed.wait(30)
    manager.close()
    assert loaded[2].closed.is_set()
    with pytest.raises(RequestError, match=r"Latest\(toy\)"), manager.use():
        pass


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", {30}),
        ("latest {}", {30}),
        ("latest { num_versions: 2 }", {20, 30}),
        ("latest { num_versions: 9 }", {3, 20, 30}),
        ("all {}", {3, 20, 30}),
        ("specific { versions: 3 versions: 20 versions: 7 }", {3, 20}),
    ],
)
def test_version_policies(tmp_path, manage, helpers, text, wanted):
    make(tmp_path, 3, 20, 30)
    policy = text_format.Parse(text, Policy())
    manager = manage(lambda version, path: Loaded(), policy)
    available = dict.fromkeys(wanted, State.AVAILABLE)
    helpers.wait_until(lambda: states(manager) == available)
    with manager.use() as newest, manager.use(max(wanted)) as same:
        assert newest is same


def test_a_change_of_policy_unloads_and_loads(tmp_path, manage, helpers):
    make(tmp_path, 1, 2, 3)
    policy = text_format.Parse("specific { versions: 1 versions: 3 }", Policy())
    manager = manage(lambda version, path: Loaded(), policy)
    both = {1: State.AVAILABLE, 3: State.AVAILABLE}
    helpers.wait_until(lambda: states(manager) == both)
    manager.follow(
        tmp_path, text_format.Parse("specific { versions: 1 versions: 2 }", Policy())
    )
    after = {1: State.AVAILABLE, 2: State.AVAILABLE, 3: State.END}
    helpers.wait_until(lambda: states(manager) == after)


def test_a_model_that_is_left_and_taken_up_again(tmp_path, manage, helpers):
    make(tmp_path, 1)
    # Looks once each time it is told to.
    manager = manage(lambda version, path: Loaded(), poll_wait_seconds=0)
    manager.wait()
    with manager.use() as first:
        manager.leave()
        helpers.wait_until(lambda: states(manager) == {1: State.UNLOADING})
        manager.follow(tmp_path, Policy())
    assert manager.wait() == []
    with manager.use() as second:
        assert second is not first
    assert first.closed.is_set()


def test_an_empty_base_path_unloads_and_a_missing_one_does_not(
    tmp_path, manage, helpers
):
    make(tmp_path, 1)
    manager = manage(lambda version, path: Loaded())
    manager.wait()
    (tmp_path / "1").rename(tmp_path / "one")
    helpers.wait_until(lambda: states(manager) == {1: State.END})
    (tmp_path / "one").rename(tmp_path / "1")
    helpers.wait_until(lambda: states(manager) == {1: State.AVAILABLE})
    away = tmp_path.with_name(f"{tmp_path.name}-away")
    tmp_path.rename(away)
    for _ in range(20):
        with manager.use():
            pass
    away.rename(tmp_path)


def test_slots_limit_what_loads_at_once(tmp_path):
    running, most, lock = 0, 0, threading.Lock()

    def load(version, path):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.05)
        with lock:
            running -= 1
        return Loaded()

    make(tmp_path, 1)
    slot = threading.Semaphore(1)
    managers = [ModelManager(f"{n}", load, load_slot=slot) for n in range(4)]
    for manager in managers:
        manager.follow(tmp_path, Policy())
    for manager in managers:
        assert manager.wait() == []
        manager.close()
    assert most == 1
