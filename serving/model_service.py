"""tensorflow.serving.ModelService, as tensorflow_model_server answers it."""

from __future__ import annotations

import logging

import grpc
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2

from adaptiverec.serving.grpc_methods import Caller, unary_method
from adaptiverec.serving.metrics import Metrics
from adaptiverec.serving.server_core import ServerCore
from adaptiverec.serving.status import RequestError

__all__ = ["ModelService", "get_model_status"]

_log = logging.getLogger(__name__)


class ModelService:
    """GetModelStatus and HandleReloadConfigRequest.

    Args:
        core: The models.
        metrics: What a reload may be asked about.
    """

    def __init__(self, core: ServerCore, metrics: Metrics | None = None) -> None:
        self._core = core
        self._metrics = metrics or Metrics()

    def handler(self) -> grpc.GenericRpcHandler:
        """What to register with a ``grpc.aio.Server``."""
        return grpc.method_handlers_generic_handler(
            "tensorflow.serving.ModelService",
            {
                "GetModelStatus": unary_method(
                    get_model_status_pb2.GetModelStatusRequest, self.get_model_status
                ),
                "HandleReloadConfigRequest": unary_method(
                    model_management_pb2.ReloadConfigRequest,
                    self.handle_reload_config_request,
                ),
            },
        )

    def get_model_status(
        self, request: get_model_status_pb2.GetModelStatusRequest, caller: Caller
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Tells the states of versions; see :func:`get_model_status`."""
        return get_model_status(self._core, request)

    def handle_reload_config_request(
        self, request: model_management_pb2.ReloadConfigRequest, caller: Caller
    ) -> model_management_pb2.ReloadConfigResponse:
        """Goes over to other models; see :meth:`ServerCore.reload`.

        Tells how much the metrics have grown meanwhile that the request names.
        """
        if request.config.WhichOneof("config") != "model_config_list":
            raise RequestError(
                grpc.StatusCode.INVALID_ARGUMENT,
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only "
                "ModelConfigList is currently supported",
            )
        before = {name: self._metrics.value(name) for name in request.metric_names}
        try:
            # Of a base path without a version that is a long wait, and no other
            # configuration is looked at before it ends.
            self._core.reload(request.config, keep_waiting=caller.is_waiting)
        except RequestError as error:
            _log.warning(
                "cannot reload the configuration: %s: %s",
                error.code.name,
                error.message,
            )
            raise
        response = model_management_pb2.ReloadConfigResponse()
        # OK, and there to be read.
        response.status.SetInParent()
        for name, value in before.items():
            response.metric.add(
                name=name, int64_value_increase=self._metrics.value(name) - value
            )
        return response


def get_model_status(
    core: ServerCore, request: get_model_status_pb2.GetModelStatusRequest
) -> get_model_status_pb2.GetModelStatusResponse:
    """Tells the state of one version, or of all that were seen, newest first.

    Raises:
        RequestError: INVALID_ARGUMENT, no model is named; those of
            :meth:`ServerCore.status`.
    """
    if not request.HasField("model_spec"):
        raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, "Missing ModelSpec")
    response = get_model_status_pb2.GetModelStatusResponse()
    for status in core.status(request.model_spec):
        entry = response.model_version_status.add(
            version=status.version, state=int(status.state)
        )
        entry.status.error_code = status.code.value[0]
        # A path may have bytes that no message can.
        entry.status.error_message = status.message.encode(errors="replace").decode()
    return response
