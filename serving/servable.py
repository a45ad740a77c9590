"""One version of a model in memory, which answers requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    model_pb2,
    predict_pb2,
    prediction_log_pb2,
    regression_pb2,
)

from adaptiverec.serving.example_inference import (
    ClassificationTask,
    RegressionTask,
    serialized_examples,
)
from adaptiverec.serving.free_memory import give_memory_back
from adaptiverec.serving.inference_tasks import inference_tasks
from adaptiverec.serving.observer import Observer
from adaptiverec.serving.predict_signature import PredictCall, PredictSignature
from adaptiverec.serving.runner import LoopRunner, Runner, RunnerWrapper
from adaptiverec.serving.saved_model import check_directory, load_saved_model
from adaptiverec.serving.session_runner import SessionRunner
from adaptiverec.serving.signatures import (
    DEFAULT_SIGNATURE,
    check_types,
    predict_signature,
)
from adaptiverec.serving.status import RequestError
from adaptiverec.serving.tensors import (
    content_proto_from_array,
    proto_from_array,
)
from adaptiverec.serving.warmup import has_warmup, run_warmup

__all__ = ["Servable"]

_Result = TypeVar("_Result")

# Beside saved_model.pb, where tensorflow_model_server looks for it.
_TFLITE_MODEL = "model.tflite"
# Values of an answer up to which it is written in the event loop.
_MANY_VALUES = 10_000


class Servable:
    """A loaded SavedModel that answers Predict, Classify, Regress and MultiInference.

    Thread-safe. It runs in a session over a graph of its own, as in
    tensorflow_model_server: errors are those of the same C++ code, two versions share
    nothing, and closing frees the memory of one.

    Args:
        name: The name of the model, for whoever observes.
        version: The version, for answers.
        path: The SavedModel directory.
        warm_up: Whether to run the requests of its warm-up file, so that the first caller
            does not wait for what TensorFlow does once.
        warm_up_iterations: How often to run each of them.
        tags: Which graph of the SavedModel.
        session_config: Threads and memory of the session.
        check_method_names: Whether a signature must name the method that is asked for.
        as_tensor_content: Whether Predict answers in ``tensor_content``, not in fields.
        prefer_tflite: Whether TensorFlow Lite's model is wanted, if there is one.
        observer: Told of loading, warm-up and runs.
        wrap_runner: What to put before the session, such as batching.

    Raises:
        RequestError: The SavedModel cannot be loaded, or a warm-up request fails.

    Attributes:
        signatures: The SignatureDef of each signature, by name.
    """

    def __init__(
        self,
        name: str,
        version: int,
        path: Path,
        *,
        warm_up: bool = True,
        warm_up_iterations: int = 1,
        tags: Sequence[str] = (tf.saved_model.SERVING,),
        session_config: config_pb2.ConfigProto | None = None,
        check_method_names: bool = False,
        as_tensor_content: bool = False,
        prefer_tflite: bool = False,
        observer: Observer | None = None,
        wrap_runner: RunnerWrapper | None = None,
    ) -> None:
        self.name = name
        self.version = version
        self._observer = observer or Observer()
        self._check_method_names = check_method_names
        self._proto_from_array = (
            content_proto_from_array if as_tensor_content else proto_from_array
        )
        # Whatever stands before the session must not put unlike tensors together.
        self._check_types = wrap_runner is not None
        config = config_pb2.ConfigProto()
        if session_config is not None:
            config.CopyFrom(session_config)
        # Two versions are in memory during a swap: neither may take the whole GPU.
        config.gpu_options.allow_growth = True
        check_directory(path, f"{{name: {name} version: {version}}}")
        if prefer_tflite and (path / _TFLITE_MODEL).exists():
            raise RequestError(
                grpc.StatusCode.UNIMPLEMENTED,
                "TensorFlow Lite is not run here; leave prefer_tflite_model out. "
                f"Received: {path / _TFLITE_MODEL}",
            )
        session, self.signatures = _observed(
            lambda: load_saved_model(path, tags, config), self._observer.load, path
        )
        runner = SessionRunner(
            session, use_caller_thread=not config.inter_op_parallelism_threads
        )
        self._runner: Runner = runner
        # Of signatures that have been asked for, by name.
        self._prepared: dict[str, PredictSignature] = {}
        self._loop_runner: LoopRunner | None = None
        try:
            # Before anything is put before the session: what TensorFlow does once takes
            # seconds, in which warm-up requests would hold up the batches of the version
            # that still serves.
            if warm_up and has_warmup(path):
                with runner.preparing_behind_requests():
                    _observed(
                        lambda: run_warmup(path, self._answer, warm_up_iterations),
                        self._observer.warmup,
                        path,
                    )
            if wrap_runner is not None:
                self._runner = wrap_runner(self._runner, self.signatures, path)
                if isinstance(self._runner, LoopRunner):
                    self._loop_runner = self._runner
        except BaseException:
            self.close()
            raise
        give_memory_back()

    def predict(
        self, request: predict_pb2.PredictRequest, timeout: float | None = None
    ) -> predict_pb2.PredictResponse:
        """Runs a signature of the model.

        Args:
            request: The signature's name (``serving_default`` where empty), one tensor for
                each of its inputs that has no default, and the outputs wanted (all where
                empty). The model's name is only repeated in the answer.
            timeout: Seconds that the caller will still wait, or None.

        Returns:
            The outputs, and who answered.

        Raises:
            RequestError: As :meth:`run`.
        """
        spec = request.model_spec
        outputs = self.run(
            spec.signature_name, request.inputs, request.output_filter, timeout
        )
        return self._predict_response(spec, outputs)

    async def predict_in_loop(
        self, request: predict_pb2.PredictRequest, timeout: float | None = None
    ) -> predict_pb2.PredictResponse | None:
        """Does what :meth:`predict` does, in an event loop, where it takes no thread.

        Returns:
            The outputs, and who answered; or None where requests are not batched, and so
            each has a thread as long as it runs.

        Raises:
            RequestError: As :meth:`run`.
        """
        if self._loop_runner is None:
            return None
        spec = request.model_spec
        call = self._call(spec.signature_name, request.inputs, request.output_filter)
        start = time.perf_counter()
        values = await self._loop_runner.run_in_loop(call.feeds, call.fetches, timeout)
        self._observer.runtime(self.name, "Predict", time.perf_counter() - start)
        outputs = dict(zip(call.aliases, values, strict=True))
        if sum(value.size for value in values) > _MANY_VALUES:
            return await asyncio.to_thread(self._predict_response, spec, outputs)
        return self._predict_response(spec, outputs)

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, np.ndarray | tensor_pb2.TensorProto],
        output_filter: Sequence[str] = (),
        timeout: float | None = None,
    ) -> dict[str, np.ndarray]:
        """Runs a signature; what :meth:`predict` does, without the messages.

        Args:
            signature_name: Its name; ``""`` is ``serving_default``.
            inputs: The value of each input, by alias; ``object`` arrays of ``bytes`` for
                strings.
            output_filter: The outputs wanted, by alias; all where empty.
            timeout: Seconds that the caller will still wait, or None.

        Returns:
            The value of each output, by alias.

        Raises:
            RequestError: FAILED_PRECONDITION, the model has no such signature;
                INVALID_ARGUMENT, the inputs or outputs are not the signature's; the code
                and message of the op, where one fails.
        """
        call = self._call(signature_name, inputs, output_filter)
        values = self._run("Predict", call.feeds, call.fetches, timeout, call.inputs)
        return dict(zip(call.aliases, values, strict=True))

    def classify(
        self,
        request: classification_pb2.ClassificationRequest,
        timeout: float | None = None,
    ) -> classification_pb2.ClassificationResponse:
        """Gives the classes and scores of each example of a request.

        Raises:
            RequestError: INVALID_ARGUMENT, there is no such signature, it is none for
                classification, or there are no examples; those of the ops.
        """
        spec = request.model_spec
        task = ClassificationTask(
            self._example_signature(spec), check_method_name=self._check_method_names
        )
        values, count = self._run_examples(
            "Classify", request.input, task.input_info, task.outputs, timeout
        )
        response = classification_pb2.ClassificationResponse(
            result=task.result(values, count)
        )
        self._say_who(response.model_spec, spec)
        return response

    def regress(
        self, request: regression_pb2.RegressionRequest, timeout: float | None = None
    ) -> regression_pb2.RegressionResponse:
        """Gives a number for each example of a request.

        Raises:
            RequestError: INVALID_ARGUMENT, there is no such signature, it is none for
                regression, or there are no examples; those of the ops.
        """
        spec = request.model_spec
        task = RegressionTask(
            self._example_signature(spec), check_method_name=self._check_method_names
        )
        values, count = self._run_examples(
            "Regress", request.input, task.input_info, task.outputs, timeout
        )
        response = regression_pb2.RegressionResponse(result=task.result(values, count))
        self._say_who(response.model_spec, spec)
        return response

    def multi_inference(
        self,
        request: inference_pb2.MultiInferenceRequest,
        timeout: float | None = None,
    ) -> inference_pb2.MultiInferenceResponse:
        """Classifies and regresses the same examples in one run of the graph.

        Raises:
            RequestError: INVALID_ARGUMENT, the tasks do not go together, or as in
                :meth:`classify`; UNIMPLEMENTED, another method.
        """
        tasks = inference_tasks(
            request, self.signatures, check_method_names=self._check_method_names
        )
        outputs = sorted({name for task in tasks for name in task.outputs})
        values, count = self._run_examples(
            "MultiInference",
            request.input,
            tasks[0].input_info if tasks else meta_graph_pb2.TensorInfo(),
            outputs,
            timeout,
        )
        response = inference_pb2.MultiInferenceResponse()
        for wanted, task in zip(request.tasks, tasks, strict=True):
            entry = response.results.add()
            if isinstance(task, ClassificationTask):
                entry.classification_result.CopyFrom(task.result(values, count))
            else:
                entry.regression_result.CopyFrom(task.result(values, count))
            self._say_who(entry.model_spec, wanted.model_spec)
        return response

    def close(self) -> None:
        """Frees the memory; a request that still runs is cancelled."""
        self._runner.close()

    def _call(
        self,
        signature_name: str,
        inputs: Mapping[str, np.ndarray | tensor_pb2.TensorProto],
        output_filter: Sequence[str],
    ) -> PredictCall:
        name = signature_name or DEFAULT_SIGNATURE
        signature = predict_signature(
            self.signatures, name, check_method_name=self._check_method_names
        )
        prepared = self._prepared.get(name)
        if prepared is None:
            # By two threads at once, it is made twice and the same.
            prepared = self._prepared[name] = PredictSignature(signature)
        call = prepared.call(inputs, output_filter)
        if self._check_types and not prepared.has_types(call.feeds):
            check_types(call.inputs, call.feeds)
        return call

    def _predict_response(
        self, spec: model_pb2.ModelSpec, outputs: Mapping[str, np.ndarray]
    ) -> predict_pb2.PredictResponse:
        response = predict_pb2.PredictResponse()
        for alias, array in outputs.items():
            self._proto_from_array(array, response.outputs[alias])
        self._say_who(response.model_spec, spec)
        return response

    def _example_signature(
        self, spec: model_pb2.ModelSpec
    ) -> meta_graph_pb2.SignatureDef:
        name = spec.signature_name or DEFAULT_SIGNATURE
        if name not in self.signatures:
            raise _invalid(f"No signature was found with the name: {name}")
        return self.signatures[name]

    def _run_examples(
        self,
        api: str,
        examples: input_pb2.Input,
        feed: meta_graph_pb2.TensorInfo,
        fetches: list[str],
        timeout: float | None,
    ) -> tuple[dict[str, np.ndarray], int]:
        protos = serialized_examples(examples)
        values = self._run(api, {feed.name: protos}, fetches, timeout, [feed])
        self._observer.examples(self.name, api, len(protos))
        return dict(zip(fetches, values, strict=True)), len(protos)

    def _run(
        self,
        api: str,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        timeout: float | None,
        inputs: Iterable[meta_graph_pb2.TensorInfo],
    ) -> list[np.ndarray]:
        start = time.perf_counter()
        try:
            values = self._runner.run(feeds, fetches, timeout)
        except RequestError:
            # Looked at only now, since hardly any request is wrong. The runner says it
            # in words of its own, and names a node that no caller knows.
            check_types(inputs, feeds)
            raise
        self._observer.runtime(self.name, api, time.perf_counter() - start)
        return values

    def _answer(self, log: prediction_log_pb2.PredictionLog) -> None:
        """Answers a recorded request, for the warm-up."""
        kind = log.WhichOneof("log_type")
        if kind == "predict_log":
            self.predict(log.predict_log.request)
        elif kind == "classify_log":
            self.classify(log.classify_log.request)
        elif kind == "regress_log":
            self.regress(log.regress_log.request)
        elif kind == "multi_inference_log":
            self.multi_inference(log.multi_inference_log.request)
        elif kind == "session_run_log":
            number = log.DESCRIPTOR.fields_by_name[kind].number
            raise RequestError(
                grpc.StatusCode.UNIMPLEMENTED,
                f"Unsupported log_type for warmup: {number}",
            )

    def _say_who(self, answer: model_pb2.ModelSpec, asked: model_pb2.ModelSpec) -> None:
        answer.name = asked.name
        answer.version.value = self.version
        answer.signature_name = asked.signature_name or DEFAULT_SIGNATURE


def _observed(
    action: Callable[[], _Result],
    tell: Callable[[str, grpc.StatusCode, float], None],
    path: Path,
) -> _Result:
    """Does something, and tells how it ended and how long it took."""
    start = time.perf_counter()
    code = grpc.StatusCode.UNKNOWN
    try:
        result = action()
        code = grpc.StatusCode.OK
        return result
    except RequestError as error:
        code = error.code
        raise
    finally:
        tell(str(path), code, time.perf_counter() - start)


def _invalid(message: str) -> RequestError:
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)
