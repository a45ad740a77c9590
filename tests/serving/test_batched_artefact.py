"""The exported model behind a server that batches, as TensorFlow Serving's own does."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from adaptiverec.serving.client import RecommenderClient
from adaptiverec.serving.server import ModelServer

ROWS = "Batching Run() input tensors must have equal 0th-dimension size"


@pytest.fixture(scope="module")
def server(base_path, tmp_path_factory) -> Iterator[ModelServer]:
    """It starts at all: its warm-up requests go through the batches, too."""
    parameters = tmp_path_factory.mktemp("batching") / "parameters.pbtxt"
    parameters.write_text(
        "batch_timeout_micros { value: 1000 } pad_variable_length_inputs: true"
    )
    with ModelServer(
        model_base_path=base_path,
        port=0,
        enable_batching=True,
        batching_parameters_file=str(parameters),
        max_num_load_retries=0,
    ) as server:
        yield server


@pytest.fixture(scope="module")
def predict(server):
    with grpc.insecure_channel(server.address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

        def predict(signature: str, *outputs: str, **inputs) -> dict[str, list]:
            request = predict_pb2.PredictRequest(output_filter=outputs)
            request.model_spec.name = "default"
            request.model_spec.signature_name = signature
            for name, value in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            response = stub.Predict(request, timeout=60)
            return {
                name: tf.make_ndarray(proto).tolist()
                for name, proto in response.outputs.items()
            }

        yield predict


@pytest.fixture(scope="module")
def histories(catalogue) -> list[list[str]]:
    return [catalogue[:3], catalogue[4:7]]


@pytest.fixture(scope="module")
def expected(artefact, histories) -> list[list[bytes]]:
    return artefact(history=np.array(histories, object))["items"].tolist()


def test_one_history_needs_nothing_else(predict, histories, expected) -> None:
    for signature in ("serving_default", "recommend"):
        for history, items in zip(histories, expected, strict=True):
            assert predict(signature, history=[history])["items"] == [items]


def test_several_histories_need_a_row_of_every_input(
    predict, histories, expected
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        predict("serving_default", history=histories)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == ROWS
    answer = predict(
        "serving_default",
        history=histories,
        k=[10, 10],
        exclude=[[""], [""]],
        allow=[[""], [""]],
        exclude_history=[True, True],
    )
    assert answer["items"] == expected


def test_some_outputs_of_several_histories(predict, histories, expected) -> None:
    answer = predict("serving_default", "items", "scores", history=histories)
    assert set(answer) == {"items", "scores"}
    assert answer["items"] == expected


def test_histories_alone_need_nothing_else(predict, histories, expected) -> None:
    answer = predict("recommend_history", history=histories, k=[10, 10])
    assert answer["items"] == expected
    assert len(answer["fingerprint"]) == 2


def test_ragged_rows_are_for_servers_that_do_not_batch(predict, histories) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        predict(
            "recommend_ragged",
            history_values=[*histories[0], *histories[1]],
            history_lengths=tf.constant([3, 3], tf.int64),
        )
    assert caught.value.details() == ROWS


def test_our_client_asks_for_several_at_once(server, histories, expected) -> None:
    with RecommenderClient(server.address, timeout=60) as client:
        answers = client.recommend_many(histories)
        alone = [client.recommend(each).items for each in histories]
    assert alone == [each.items for each in answers]
    assert [[item.encode() for item in each.items] for each in answers] == expected


def test_callers_of_one_batch_get_their_own_answers(
    server, catalogue, artefact
) -> None:
    # Of all lengths: a batch pads a row with what it begins with, at its end.
    histories = [catalogue[n : n + 1 + n % 6] for n in range(60)]
    expected = [
        artefact(history=np.array([each], object))["items"][0].tolist()
        for each in histories
    ]
    with (
        RecommenderClient(server.address, timeout=60) as client,
        ThreadPoolExecutor(30) as pool,
    ):
        answers = list(pool.map(client.recommend, histories))
    assert [[item.encode() for item in each.items] for each in answers] == expected
