"""Classify and Regress: tf.Example protos in, classes or a number for each out."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import classification_pb2, input_pb2, regression_pb2

from adaptiverec.serving.signatures import CLASSIFY_METHOD, REGRESS_METHOD
from adaptiverec.serving.status import RequestError
from adaptiverec.serving.tensors import dtype_name

__all__ = [
    "ClassificationTask",
    "ExampleTask",
    "RegressionTask",
    "serialized_examples",
]

_INPUTS = "inputs"
_CLASSES = "classes"
_SCORES = "scores"
_REGRESSIONS = "outputs"


class ExampleTask:
    """A signature for tf.Example, checked; see the two below.

    Args:
        signature: The signature.

    Attributes:
        input: The tensor of the graph that takes serialized protos, string ``[batch]``.
        input_info: What the signature says of it.
        outputs: The tensors of the graph to fetch.
    """

    def __init__(self, signature: meta_graph_pb2.SignatureDef) -> None:
        self._outputs = {alias: info.name for alias, info in signature.outputs.items()}
        self.input_info: meta_graph_pb2.TensorInfo = signature.inputs[_INPUTS]
        self.input: str = self.input_info.name
        self.outputs: list[str] = sorted(set(self._outputs.values()))


class ClassificationTask(ExampleTask):
    """A signature that takes ``inputs`` and gives ``classes``, ``scores`` or both.

    Args:
        signature: The signature.
        check_method_name: Whether its method must be that of classification.

    Raises:
        RequestError: INVALID_ARGUMENT, it does not fit.
    """

    def __init__(
        self, signature: meta_graph_pb2.SignatureDef, *, check_method_name: bool = False
    ) -> None:
        if check_method_name and signature.method_name != CLASSIFY_METHOD:
            raise _invalid(
                "Expected classification signature method_name to be "
                f"{CLASSIFY_METHOD}. Was: {signature.method_name}"
            )
        if len(signature.inputs) != 1:
            raise _invalid("Expected one input Tensor.")
        if len(signature.outputs) not in (1, 2):
            raise _invalid(
                f"Expected one or two output Tensors, found {len(signature.outputs)}"
            )
        if _INPUTS not in signature.inputs:
            raise _invalid(
                f"No classification inputs found in SignatureDef: {signature}"
            )
        if not {_CLASSES, _SCORES} & set(signature.outputs):
            raise _invalid(
                "Expected classification signature outputs to contain at least one of "
                f'"{_CLASSES}" or "{_SCORES}". Signature was: {signature}'
            )
        super().__init__(signature)
        self.outputs = [
            self._outputs[alias]
            for alias in (_CLASSES, _SCORES)
            if alias in self._outputs
        ]

    def result(
        self, values: Mapping[str, np.ndarray], num_examples: int
    ) -> classification_pb2.ClassificationResult:
        """Puts the answer together.

        Args:
            values: The tensors of ``outputs``, by name, ``[batch, num_classes]``.
            num_examples: How many examples were asked about.

        Raises:
            RequestError: INVALID_ARGUMENT, the tensors are not of that form.
        """
        classes = values.get(self._outputs.get(_CLASSES, ""))
        scores = values.get(self._outputs.get(_SCORES, ""))
        if classes is not None:
            _check_matrix(classes, "classes", "DT_STRING", num_examples)
        if scores is not None:
            _check_matrix(scores, "scores", "DT_FLOAT", num_examples)
        if (
            classes is not None
            and scores is not None
            and classes.shape[1] != scores.shape[1]
        ):
            raise _invalid(
                "Tensors class and score should match in dim_size(1). Got "
                f"{classes.shape[1]} vs. {scores.shape[1]}"
            )
        result = classification_pb2.ClassificationResult()
        for row in range(num_examples):
            answer = result.classifications.add()
            labels = classes[row] if classes is not None else None
            values_of_row = scores[row].tolist() if scores is not None else None
            length = len(labels if labels is not None else values_of_row or [])
            for column in range(length):
                entry = answer.classes.add()
                if labels is not None:
                    entry.label = _text(labels[column])
                if values_of_row is not None:
                    entry.score = values_of_row[column]
        return result


class RegressionTask(ExampleTask):
    """A signature that takes ``inputs`` and gives ``outputs``, a number for each.

    Args:
        signature: The signature.
        check_method_name: Whether its method must be that of regression.

    Raises:
        RequestError: INVALID_ARGUMENT, it does not fit.
    """

    def __init__(
        self, signature: meta_graph_pb2.SignatureDef, *, check_method_name: bool = False
    ) -> None:
        if check_method_name and signature.method_name != REGRESS_METHOD:
            raise _invalid(
                "Expected regression signature method_name to be "
                f"{REGRESS_METHOD}. Was: {signature.method_name}"
            )
        if len(signature.inputs) != 1:
            raise _invalid("Expected one input Tensor.")
        if len(signature.outputs) != 1:
            raise _invalid("Expected one output Tensor.")
        if _INPUTS not in signature.inputs:
            raise _invalid(f"No regression inputs found in SignatureDef: {signature}")
        if _REGRESSIONS not in signature.outputs:
            raise _invalid(f"No regression outputs found in SignatureDef: {signature}")
        super().__init__(signature)

    def result(
        self, values: Mapping[str, np.ndarray], num_examples: int
    ) -> regression_pb2.RegressionResult:
        """Puts the answer together.

        Args:
            values: The tensors of ``outputs``, by name, ``[batch]`` or ``[batch, 1]``.
            num_examples: How many examples were asked about.

        Raises:
            RequestError: INVALID_ARGUMENT, the tensor is not of that form.
        """
        output = values[self._outputs[_REGRESSIONS]]
        if not (output.ndim == 1 or (output.ndim == 2 and output.shape[1] == 1)):
            raise _invalid(
                "Expected output Tensor shape to be either [batch_size] or "
                f"[batch_size, 1] but got {_shape(output)}"
            )
        if output.shape[0] != num_examples:
            raise _invalid(
                "Input batch size did not match output batch size: "
                f"{num_examples} vs. {output.shape[0]}"
            )
        if _type(output) != "DT_FLOAT":
            raise _invalid(f"Expected output Tensor of DT_FLOAT.  Got: {_type(output)}")
        result = regression_pb2.RegressionResult()
        for value in output.reshape(-1).tolist():
            result.regressions.add(value=value)
        return result


def serialized_examples(examples: input_pb2.Input) -> np.ndarray:
    """The examples of a request, each with the context that they share.

    Returns:
        Serialized protos, ``object`` of ``bytes``, ``[batch]``.

    Raises:
        RequestError: INVALID_ARGUMENT, there is none.
    """
    kind = examples.WhichOneof("kind")
    context = b""
    protos = []
    if kind == "example_list":
        protos = list(examples.example_list.examples)
    elif kind == "example_list_with_context":
        with_context = examples.example_list_with_context
        # One message behind the other is the two of them merged.
        context = with_context.context.SerializeToString()
        protos = list(with_context.examples)
    if not protos:
        raise _invalid("Input is empty.")
    array = np.empty(len(protos), dtype=object)
    array[:] = [context + proto.SerializeToString() for proto in protos]
    return array


def _check_matrix(array: np.ndarray, name: str, dtype: str, num_examples: int) -> None:
    if array.ndim != 2:
        raise _invalid(
            f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}"
        )
    if _type(array) != dtype:
        raise _invalid(f"Expected {name} Tensor of {dtype}. Got: {_type(array)}")
    if array.shape[0] != num_examples:
        raise _invalid(
            f"Expected {name} output batch size of {num_examples}. Got: "
            f"{array.shape[0]}"
        )


def _text(label: bytes) -> str:
    # The field is a string, and Python's protobuf holds to that where C++ sends bytes.
    return label.decode(errors="replace")


def _type(array: np.ndarray) -> str:
    return dtype_name(tf.dtypes.as_dtype(array.dtype).as_datatype_enum)


def _shape(array: np.ndarray) -> str:
    return "[" + ",".join(map(str, array.shape)) + "]"


def _invalid(message: str) -> RequestError:
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)
