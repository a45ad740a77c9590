"""tensorflow.serving.PredictionService, as tensorflow_model_server answers it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from adaptiverec.serving.observer import Observer
from adaptiverec.serving.server_core import ServerCore
from adaptiverec.serving.status import RequestError, answering

__all__ = ["PredictionService", "get_model_metadata"]

_SIGNATURE_DEF = "signature_def"

_Answer = TypeVar("_Answer")


class PredictionService:
    """Predict, Classify, Regress, MultiInference and GetModelMetadata.

    Args:
        core: The models.
        observer: Told of every request.
    """

    def __init__(self, core: ServerCore, observer: Observer | None = None) -> None:
        self._core = core
        self._observer = observer or Observer()

    def handler(self) -> grpc.GenericRpcHandler:
        """What to register with a ``grpc.Server``."""
        methods = {
            "Predict": (
                self.predict,
                predict_pb2.PredictRequest,
                predict_pb2.PredictResponse,
            ),
            "Classify": (
                self.classify,
                classification_pb2.ClassificationRequest,
                classification_pb2.ClassificationResponse,
            ),
            "Regress": (
                self.regress,
                regression_pb2.RegressionRequest,
                regression_pb2.RegressionResponse,
            ),
            "MultiInference": (
                self.multi_inference,
                inference_pb2.MultiInferenceRequest,
                inference_pb2.MultiInferenceResponse,
            ),
            "GetModelMetadata": (
                self.get_model_metadata,
                get_model_metadata_pb2.GetModelMetadataRequest,
                get_model_metadata_pb2.GetModelMetadataResponse,
            ),
        }
        return grpc.method_handlers_generic_handler(
            "tensorflow.serving.PredictionService",
            {
                name: grpc.unary_unary_rpc_method_handler(
                    method, request.FromString, response.SerializeToString
                )
                for name, (method, request, response) in methods.items()
            },
        )

    @answering
    def predict(
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """Runs a signature; see :meth:`Servable.predict`."""

        def answer(timeout: float | None) -> predict_pb2.PredictResponse:
            with self._core.use(_spec(request)) as servable:
                return servable.predict(request, timeout)

        return self._observed("Predict", request.model_spec.name, answer, context)

    @answering
    def classify(
        self,
        request: classification_pb2.ClassificationRequest,
        context: grpc.ServicerContext,
    ) -> classification_pb2.ClassificationResponse:
        """Classifies examples; see :meth:`Servable.classify`."""

        def answer(timeout: float | None) -> classification_pb2.ClassificationResponse:
            with self._core.use(_spec(request)) as servable:
                return servable.classify(request, timeout)

        return self._observed("Classify", request.model_spec.name, answer, context)

    @answering
    def regress(
        self, request: regression_pb2.RegressionRequest, context: grpc.ServicerContext
    ) -> regression_pb2.RegressionResponse:
        """Gives a number for each example; see :meth:`Servable.regress`."""

        def answer(timeout: float | None) -> regression_pb2.RegressionResponse:
            with self._core.use(_spec(request)) as servable:
                return servable.regress(request, timeout)

        return self._observed("Regress", request.model_spec.name, answer, context)

    @answering
    def multi_inference(
        self,
        request: inference_pb2.MultiInferenceRequest,
        context: grpc.ServicerContext,
    ) -> inference_pb2.MultiInferenceResponse:
        """Classifies and regresses at once; see :meth:`Servable.multi_inference`."""
        # The first task's model stands for all; the others are compared with it.
        spec = model_pb2.ModelSpec()
        if request.tasks:
            spec = request.tasks[0].model_spec

        def answer(timeout: float | None) -> inference_pb2.MultiInferenceResponse:
            with self._core.use(spec) as servable:
                return servable.multi_inference(request, timeout)

        return self._observed("MultiInference", spec.name, answer, context)

    @answering
    def get_model_metadata(
        self,
        request: get_model_metadata_pb2.GetModelMetadataRequest,
        context: grpc.ServicerContext,
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Tells the signatures of the model; see :func:`get_model_metadata`."""
        return self._observed(
            "GetModelMetadata",
            request.model_spec.name,
            lambda timeout: get_model_metadata(self._core, request),
            context,
        )

    def _observed(
        self,
        api: str,
        model: str,
        answer: Callable[[float | None], _Answer],
        context: grpc.ServicerContext,
    ) -> _Answer:
        start = time.perf_counter()
        code = grpc.StatusCode.INTERNAL
        try:
            if not context.is_active():
                # The caller gave up while the request waited for a thread.
                raise RequestError(grpc.StatusCode.CANCELLED, "the caller has gone")
            response = answer(context.time_remaining())
            code = grpc.StatusCode.OK
            return response
        except RequestError as error:
            code = error.code
            raise
        finally:
            self._observer.request(
                model, api, "GRPC", code, time.perf_counter() - start
            )


def get_model_metadata(
    core: ServerCore, request: get_model_metadata_pb2.GetModelMetadataRequest
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """Tells the signatures of a model: names, types and shapes.

    Raises:
        RequestError: INVALID_ARGUMENT, the request asks for nothing, or for something
            else; those of :meth:`ServerCore.use`.
    """
    spec = _spec(request)
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
    with core.use(spec) as servable:
        for name, signature in servable.signatures.items():
            signatures.signature_def[name].CopyFrom(signature)
        response.model_spec.name = servable.name
        response.model_spec.version.value = servable.version
    response.metadata[_SIGNATURE_DEF].Pack(signatures)
    return response


def _spec(request: Any) -> model_pb2.ModelSpec:
    if not request.HasField("model_spec"):
        raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, "Missing ModelSpec")
    return request.model_spec
