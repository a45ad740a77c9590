"""tensorflow.serving.ModelService, as tensorflow_model_server answers it."""

from __future__ import annotations

from typing import Any

import grpc
from tensorflow_serving.apis import get_model_status_pb2

from adaptiverec.serving.model_manager import ModelManager
from adaptiverec.serving.status import RequestError, answering

__all__ = ["ModelService"]


class ModelService:
    """GetModelStatus of one model.

    HandleReloadConfigRequest answers UNIMPLEMENTED: there is nothing to configure.

    Args:
        models: The versions of the model.
    """

    def __init__(self, models: ModelManager[Any]) -> None:
        self._models = models

    def handler(self) -> grpc.GenericRpcHandler:
        """What to register with a ``grpc.Server``."""
        return grpc.method_handlers_generic_handler(
            "tensorflow.serving.ModelService",
            {
                "GetModelStatus": grpc.unary_unary_rpc_method_handler(
                    self.get_model_status,
                    get_model_status_pb2.GetModelStatusRequest.FromString,
                    get_model_status_pb2.GetModelStatusResponse.SerializeToString,
                )
            },
        )

    @answering
    def get_model_status(
        self,
        request: get_model_status_pb2.GetModelStatusRequest,
        context: grpc.ServicerContext,
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Tells the state of one version, or of all that were seen, newest first."""
        if not request.HasField("model_spec"):
            raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, "Missing ModelSpec")
        spec = request.model_spec
        statuses = self._models.statuses() if spec.name == self._models.name else []
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
        response = get_model_status_pb2.GetModelStatusResponse()
        for status in statuses:
            entry = response.model_version_status.add(
                version=status.version, state=int(status.state)
            )
            entry.status.error_code = status.code.value[0]
            entry.status.error_message = status.message
        return response
