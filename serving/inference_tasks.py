"""MultiInference: which signatures of a model run together, over the same examples."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import inference_pb2

from adaptiverec.serving.example_inference import ClassificationTask, RegressionTask
from adaptiverec.serving.signatures import (
    CLASSIFY_METHOD,
    DEFAULT_SIGNATURE,
    REGRESS_METHOD,
)
from adaptiverec.serving.status import RequestError

__all__ = ["inference_tasks"]


def inference_tasks(
    request: inference_pb2.MultiInferenceRequest,
    signatures: Mapping[str, meta_graph_pb2.SignatureDef],
    *,
    check_method_names: bool = False,
) -> list[ClassificationTask | RegressionTask]:
    """The checked tasks of a request, in order.

    Args:
        request: The request.
        signatures: Those of the model.
        check_method_names: Whether a signature must name the method that is asked for.

    Raises:
        RequestError: INVALID_ARGUMENT, the tasks do not go together or do not fit their
            signatures; UNIMPLEMENTED, a method is neither of the two.
    """
    tasks: list[ClassificationTask | RegressionTask] = []
    names: set[str] = set()
    for wanted in request.tasks:
        spec = wanted.model_spec
        if not spec.name:
            raise _invalid("Found ModelSpec with an empty model name.")
        if spec.name != request.tasks[0].model_spec.name:
            raise _invalid(
                "All ModelSpecs in a MultiInferenceRequest must access the same model "
                "name."
            )
        name = spec.signature_name or DEFAULT_SIGNATURE
        if name in names:
            raise _invalid(f"Duplicate evaluation of signature: {name}")
        names.add(name)
        signature = signatures.get(name)
        if signature is None:
            raise _invalid(f"Requested signature not found in model graph: {name}")
        if wanted.method_name == CLASSIFY_METHOD:
            tasks.append(
                ClassificationTask(signature, check_method_name=check_method_names)
            )
        elif wanted.method_name == REGRESS_METHOD:
            tasks.append(
                RegressionTask(signature, check_method_name=check_method_names)
            )
        else:
            raise RequestError(
                grpc.StatusCode.UNIMPLEMENTED,
                f"Unsupported signature method_name: {wanted.method_name}",
            )
        if tasks[-1].input != tasks[0].input:
            raise _invalid("Input tensor must be the same for all Signatures.")
    return tasks


def _invalid(message: str) -> RequestError:
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)
