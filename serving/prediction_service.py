"""tensorflow.serving.PredictionService, as tensorflow_model_server answers it."""

from __future__ import annotations

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    model_pb2,
    predict_pb2,
)

from adaptiverec.serving.model_manager import ModelManager
from adaptiverec.serving.servable import Servable
from adaptiverec.serving.status import RequestError, answering

__all__ = ["PredictionService"]

_SIGNATURE_DEF = "signature_def"


class PredictionService:
    """Predict and GetModelMetadata of one model.

    Classify, Regress and MultiInference are for models of tf.Example and answer
    UNIMPLEMENTED.

    Args:
        models: The versions of the model.
    """

    def __init__(self, models: ModelManager[Servable]) -> None:
        self._models = models

    def handler(self) -> grpc.GenericRpcHandler:
        """What to register with a ``grpc.Server``."""
        return grpc.method_handlers_generic_handler(
            "tensorflow.serving.PredictionService",
            {
                "Predict": grpc.unary_unary_rpc_method_handler(
                    self.predict,
                    predict_pb2.PredictRequest.FromString,
                    predict_pb2.PredictResponse.SerializeToString,
                ),
                "GetModelMetadata": grpc.unary_unary_rpc_method_handler(
                    self.get_model_metadata,
                    get_model_metadata_pb2.GetModelMetadataRequest.FromString,
                    get_model_metadata_pb2.GetModelMetadataResponse.SerializeToString,
                ),
            },
        )

    @answering
    def predict(
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """Runs a signature; see :meth:`Servable.predict`."""
        if not context.is_active():
            # The caller gave up while the request waited for a thread.
            raise RequestError(grpc.StatusCode.CANCELLED, "the caller has gone")
        version = self._requested_version(request)
        with self._models.use(version) as servable:
            return servable.predict(request)

    @answering
    def get_model_metadata(
        self,
        request: get_model_metadata_pb2.GetModelMetadataRequest,
        context: grpc.ServicerContext,
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Tells the signatures of the model: names, types and shapes."""
        if not request.HasField("model_spec"):
            raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, "Missing ModelSpec")
        if not request.metadata_field:
            raise RequestError(
                grpc.StatusCode.INVALID_ARGUMENT,
                "GetModelMetadataRequest must specify at least one metadata_field",
            )
        for field in request.metadata_field:
            if field != _SIGNATURE_DEF:
                raise RequestError(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"Metadata field {field} is not supported",
                )
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        with self._models.use(self._requested_version(request)) as servable:
            for name, signature in servable.signatures.items():
                signatures.signature_def[name].CopyFrom(signature)
            response.model_spec.name = servable.name
            response.model_spec.version.value = servable.version
        response.metadata[_SIGNATURE_DEF].Pack(signatures)
        return response

    def _requested_version(
        self,
        request: predict_pb2.PredictRequest
        | get_model_metadata_pb2.GetModelMetadataRequest,
    ) -> int | None:
        """The version that a request names; None for the one that serves."""
        if not request.HasField("model_spec"):
            raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, "Missing ModelSpec")
        spec: model_pb2.ModelSpec = request.model_spec
        if not spec.name:
            raise RequestError(
                grpc.StatusCode.INVALID_ARGUMENT, "ModelSpec has no name specified."
            )
        if spec.WhichOneof("version_choice") == "version_label":
            raise RequestError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"Unrecognized servable version label: {spec.version_label}",
            )
        version = spec.version.value if spec.HasField("version") else None
        if spec.name != self._models.name:
            raise self._models.not_found(spec.name, version)
        return version
