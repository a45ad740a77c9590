"""The models of a server: which there are, and which version answers a request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import grpc
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.config import model_server_config_pb2

from adaptiverec.serving.model_config import (
    check_logging,
    check_models,
    check_platform_changes,
    check_platforms,
    check_transition,
)
from adaptiverec.serving.model_manager import ModelManager
from adaptiverec.serving.servable import Servable
from adaptiverec.serving.status import RequestError
from adaptiverec.serving.version_status import State, VersionStatus, not_found
from adaptiverec.serving.versions import find_versions

__all__ = ["ServerCore"]

Labels = dict[str, dict[str, int]]


class ServerCore:
    """Several models, each with its versions. Thread-safe.

    What a front end (gRPC, REST) needs::

        with core.use(request.model_spec) as servable:
            response = servable.predict(request)  # or classify, regress, ...
            arrays = servable.run(signature_name, {"history": array}, ["items"])
        statuses = core.status(model_spec)

    All of them raise :class:`RequestError` with TensorFlow Serving's codes and texts. A
    version that is in use is not unloaded before the block ends.

    Args:
        load: Loads a version, given the model's name, its number and its directory.
        file_system_poll_wait_seconds: Time between two looks for versions; 0 looks once,
            a negative one never.
        max_num_load_retries: How often a version that failed to load is tried again.
        load_retry_interval_micros: Time between two such tries; none where negative.
        num_load_threads: How many models may load at once; 0 is all.
        num_unload_threads: How many may unload at once; 0 is all.
        allow_version_labels_for_unavailable_models: Whether a label that is not in use may
            be given to a version that is not available yet.
        fail_if_no_model_versions_found: Whether a model without any version is refused;
            otherwise it is waited for.
        on_available: Told the model and version that serves from now on.
    """

    def __init__(
        self,
        load: Callable[[str, int, Path], Servable],
        *,
        file_system_poll_wait_seconds: float = 1.0,
        max_num_load_retries: int = 5,
        load_retry_interval_micros: int = 60_000_000,
        num_load_threads: int = 0,
        num_unload_threads: int = 0,
        allow_version_labels_for_unavailable_models: bool = False,
        fail_if_no_model_versions_found: bool = False,
        on_available: Callable[[str, int], None] | None = None,
    ) -> None:
        def new_manager(name: str) -> ModelManager[Servable]:
            return ModelManager(
                name,
                partial(load, name),
                poll_wait_seconds=file_system_poll_wait_seconds,
                max_load_retries=max_num_load_retries,
                load_retry_seconds=max(0.0, load_retry_interval_micros / 1e6),
                load_slot=load_slots,
                unload_slot=unload_slots,
                on_available=on_available and partial(on_available, name),
            )

        load_slots = threading.Semaphore(num_load_threads) if num_load_threads else None
        unload_slots = (
            threading.Semaphore(num_unload_threads) if num_unload_threads else None
        )
        self._new_manager = new_manager
        self._allow_early_labels = allow_version_labels_for_unavailable_models
        self._needs_versions = fail_if_no_model_versions_found
        # One change of configuration at a time; requests never wait for it.
        self._config_lock = threading.Lock()
        self._config = model_server_config_pb2.ModelServerConfig()
        # Replaced and never changed, so read without a lock. Models that have been taken
        # out stay here: their states can still be asked for.
        self._managers: dict[str, ModelManager[Servable]] = {}
        self._labels: Labels = {}
        self._closed = False

    @contextmanager
    def use(self, spec: model_pb2.ModelSpec) -> Iterator[Servable]:
        """Lends the version that a request names, by number, by label or as the newest.

        Raises:
            RequestError: INVALID_ARGUMENT, the spec names no model, or an unknown label;
                NOT_FOUND, there is no such model, or the version does not serve.
        """
        if not spec.name:
            raise RequestError(
                grpc.StatusCode.INVALID_ARGUMENT, "ModelSpec has no name specified."
            )
        version = None
        choice = spec.WhichOneof("version_choice")
        if choice == "version":
            version = spec.version.value
        elif choice == "version_label":
            version = self._labels.get(spec.name, {}).get(spec.version_label)
            if version is None:
                raise RequestError(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"Unrecognized servable version label: {spec.version_label}",
                )
        manager = self._managers.get(spec.name)
        if manager is None:
            raise not_found(spec.name, version)
        with manager.use(version) as servable:
            yield servable

    def status(self, spec: model_pb2.ModelSpec) -> list[VersionStatus]:
        """The states of one version, or of all that were seen of a model, newest first.

        A label in the spec is not looked at, as in tensorflow_model_server.

        Raises:
            RequestError: NOT_FOUND, there is no such model or version.
        """
        manager = self._managers.get(spec.name)
        statuses = manager.statuses() if manager is not None else []
        missing = "any versions"
        if spec.HasField("version"):
            version = spec.version.value
            statuses = [status for status in statuses if status.version == version]
            missing = f"version {version}"
        if not statuses:
            raise RequestError(
                grpc.StatusCode.NOT_FOUND,
                f"Could not find {missing} of model {spec.name}",
            )
        return statuses

    def available(self) -> list[tuple[str, int]]:
        """The models and versions that can be asked, each model's oldest first."""
        return [
            (name, status.version)
            for name, manager in self._managers.items()
            for status in reversed(manager.statuses())
            if status.state == State.AVAILABLE
        ]

    def reload(
        self,
        config: model_server_config_pb2.ModelServerConfig,
        *,
        keep_waiting: Callable[[], bool] = lambda: True,
    ) -> None:
        """Goes over to other models, and waits until the new ones are available.

        Models that are not listed any more are unloaded; those that stay have their base
        path, version policy and labels changed. A model is available when one of its
        versions is.

        Args:
            config: A list of models; without one nothing happens.
            keep_waiting: Asked again and again whether anybody still waits; the models
                are loaded without that, too.

        Raises:
            RequestError: INVALID_ARGUMENT, FAILED_PRECONDITION or NOT_FOUND, the
                configuration is refused, and nothing has changed; UNKNOWN, a new model
                could not be loaded, though all else has been done; INVALID_ARGUMENT, all
                has been done, but requests cannot be logged.
        """
        with self._config_lock:
            check_transition(self._config, config)
            at_first = self._config.WhichOneof("config") is None
            if config.WhichOneof("config") is None:
                return
            models = config.model_config_list
            check_models(models)
            check_platform_changes(self._config.model_config_list, models)
            labels = self._checked_labels(models)
            check_platforms(models)
            old_names = {model.name for model in self._config.model_config_list.config}
            if self._needs_versions:
                for model in models.config:
                    if model.name not in old_names:
                        _check_versions(model)
            self._config = model_server_config_pb2.ModelServerConfig()
            self._config.CopyFrom(config)
            self._labels = labels
            for name in old_names - {model.name for model in models.config}:
                self._managers[name].leave()
            for model in models.config:
                if model.name not in self._managers:
                    manager = self._new_manager(model.name)
                    self._managers = {**self._managers, model.name: manager}
                self._managers[model.name].follow(
                    Path(model.base_path), model.model_version_policy
                )
            self._wait_for(
                [model.name for model in models.config if model.name not in old_names],
                keep_waiting,
                at_first=at_first,
            )
            check_logging(models)

    def close(self) -> None:
        """Unloads everything; what waits for a model is let go."""
        self._closed = True
        for manager in self._managers.values():
            manager.close()

    def _checked_labels(
        self, models: model_server_config_pb2.ModelConfigList
    ) -> Labels:
        labels: Labels = {}
        for model in models.config:
            manager = self._managers.get(model.name)
            available = {
                status.version
                for status in (manager.statuses() if manager else [])
                if status.state == State.AVAILABLE
            }
            for label, version in sorted(model.version_labels.items()):
                used_for = self._labels.get(model.name, {}).get(label, version)
                early = self._allow_early_labels and used_for == version
                if version not in available and not early:
                    raise RequestError(
                        grpc.StatusCode.FAILED_PRECONDITION,
                        f"Request to assign label to version {version} of model "
                        f"{model.name}, which is not currently available for inference",
                    )
                labels.setdefault(model.name, {})[label] = version
        return labels

    def _wait_for(
        self, names: list[str], keep_waiting: Callable[[], bool], *, at_first: bool
    ) -> None:
        failures = []
        for name in sorted(names):
            # The newest stands for all that have failed.
            for status in self._managers[name].wait(keep_waiting)[:1]:
                failures.append(
                    f"{{{{name: {name} version: {status.version}}} due to error: "
                    f"{status.code.name}: {status.message}}}, "
                )
        if self._closed:
            raise RequestError(grpc.StatusCode.CANCELLED, "The server is being stopped")
        if failures:
            kind = "servable(s)" if at_first else "model(s)"
            raise RequestError(
                grpc.StatusCode.UNKNOWN,
                f"{len(failures)} {kind} did not become available: "
                f"{{{''.join(failures)}}}",
            )


def _check_versions(model: model_server_config_pb2.ModelConfig) -> None:
    try:
        versions = find_versions(Path(model.base_path))
    except OSError as error:
        raise RequestError(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"Could not find base path {model.base_path} for servable {model.name} with "
            f"error NOT_FOUND: {model.base_path} not found",
        ) from error
    if not versions:
        raise RequestError(
            grpc.StatusCode.NOT_FOUND,
            f"Unable to find a numerical version path for servable {model.name} at: "
            f"{model.base_path}",
        )
