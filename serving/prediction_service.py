"""tensorflow.serving.PredictionService, as tensorflow_model_server answers it."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any

import grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from adaptiverec.serving.grpc_methods import Caller, unary_method
from adaptiverec.serving.observer import Observer
from adaptiverec.serving.server_core import ServerCore
from adaptiverec.serving.status import RequestError

__all__ = ["PredictionService", "get_model_metadata"]

_SIGNATURE_DEF = "signature_def"


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
        """What to register with a ``grpc.aio.Server``."""
        methods = {
            "Predict": unary_method(
                predict_pb2.PredictRequest, self.predict, self.predict_in_loop
            ),
            "Classify": unary_method(
                classification_pb2.ClassificationRequest, self.classify
            ),
            "Regress": unary_method(regression_pb2.RegressionRequest, self.regress),
            "MultiInference": unary_method(
                inference_pb2.MultiInferenceRequest, self.multi_inference
            ),
            "GetModelMetadata": unary_method(
                get_model_metadata_pb2.GetModelMetadataRequest, self.get_model_metadata
            ),
        }
        return grpc.method_handlers_generic_handler(
            "tensorflow.serving.PredictionService", methods
        )

    def predict(
        self, request: predict_pb2.PredictRequest, caller: Caller
    ) -> predict_pb2.PredictResponse:
        """Runs a signature; see :meth:`Servable.predict`."""
        with (
            self._observed("Predict", request.model_spec.name),
            self._core.use(_spec(request)) as servable,
        ):
            return servable.predict(request, caller.seconds_left())

    async def predict_in_loop(
        self, request: predict_pb2.PredictRequest, caller: Caller
    ) -> predict_pb2.PredictResponse | None:
        """Does what :meth:`predict` does; see :meth:`Servable.predict_in_loop`."""
        with self._observed("Predict", request.model_spec.name) as seen:
            with self._core.use(_spec(request)) as servable:
                response = await servable.predict_in_loop(
                    request, caller.seconds_left()
                )
            if response is None:
                seen.forget()
            return response

    def classify(
        self, request: classification_pb2.ClassificationRequest, caller: Caller
    ) -> classification_pb2.ClassificationResponse:
        """Classifies examples; see :meth:`Servable.classify`."""
        with (
            self._observed("Classify", request.model_spec.name),
            self._core.use(_spec(request)) as servable,
        ):
            return servable.classify(request, caller.seconds_left())

    def regress(
        self, request: regression_pb2.RegressionRequest, caller: Caller
    ) -> regression_pb2.RegressionResponse:
        """Gives a number for each example; see :meth:`Servable.regress`."""
        with (
            self._observed("Regress", request.model_spec.name),
            self._core.use(_spec(request)) as servable,
        ):
            return servable.regress(request, caller.seconds_left())

    def multi_inference(
        self, request: inference_pb2.MultiInferenceRequest, caller: Caller
    ) -> inference_pb2.MultiInferenceResponse:
        """Classifies and regresses at once; see :meth:`Servable.multi_inference`."""
        # The first task's model stands for all; the others are compared with it.
        spec = model_pb2.ModelSpec()
        if request.tasks:
            spec = request.tasks[0].model_spec
        with (
            self._observed("MultiInference", spec.name),
            self._core.use(spec) as servable,
        ):
            return servable.multi_inference(request, caller.seconds_left())

    def get_model_metadata(
        self,
        request: get_model_metadata_pb2.GetModelMetadataRequest,
        caller: Caller,
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Tells the signatures of the model; see :func:`get_model_metadata`."""
        with self._observed("GetModelMetadata", request.model_spec.name):
            return get_model_metadata(self._core, request)

    def _observed(self, api: str, model: str) -> _Observed:
        return _Observed(self._observer, api, model)


class _Observed:
    """Tells how what is done within ended, and how long it took."""

    __slots__ = ("_api", "_forgotten", "_model", "_observer", "_start")

    def __init__(self, observer: Observer, api: str, model: str) -> None:
        self._observer = observer
        self._api = api
        self._model = model
        self._forgotten = False

    def forget(self) -> None:
        """Leaves it to another to tell."""
        self._forgotten = True

    def __enter__(self) -> _Observed:
        self._start = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._forgotten:
            return
        code = grpc.StatusCode.INTERNAL
        if error is None:
            code = grpc.StatusCode.OK
        elif isinstance(error, RequestError):
            code = error.code
        elif isinstance(error, asyncio.CancelledError):
            # The caller gave up, or its deadline has passed.
            code = grpc.StatusCode.CANCELLED
        self._observer.request(
            self._model, self._api, "GRPC", code, time.perf_counter() - self._start
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
