"""Asks a server for recommendations; needs grpcio and protobuf, and no TensorFlow."""

from __future__ import annotations

import array
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

import grpc

from adaptiverec.common.errors import InvalidValueError, StageError
from adaptiverec.serving import predict_pb2 as wire

__all__ = ["Recommendations", "RecommenderClient", "ServerError"]

_METHOD = "/tensorflow.serving.PredictionService/Predict"
_MAX_K = 2**31 - 1
_OUTPUTS = ("items", "scores", "unknown_items")


class ServerError(StageError):
    """The server did not give an answer, or not one of a recommender.

    Attributes:
        server: The address that was asked.
        code: The name of the gRPC status code, such as ``"NOT_FOUND"``.
        details: The server's own message.
    """

    def __init__(self, server: str, code: str, details: str) -> None:
        super().__init__(
            "The server must answer with recommendations. Received: "
            f"{code} from {server}: {details}"
        )
        self.server = server
        self.code = code
        self.details = details


@dataclass(frozen=True)
class Recommendations:
    """What is recommended after one history, best first.

    Attributes:
        items: Raw item ids; fewer than asked for where the catalogue has no more.
        scores: The score of each item, descending.
        unknown_items: How many items of the history the model does not know; they were
            skipped.
        model_version: The version of the model that answered.
    """

    items: list[str]
    scores: list[float]
    unknown_items: int
    model_version: int


class RecommenderClient:
    """A connection to a server of an exported model. Thread-safe.

    The server may be ours or a stock tensorflow_model_server. The connection is made
    with the first call.

    Example::

        with RecommenderClient("127.0.0.1:8500") as client:
            client.recommend(["B001", "B007"], k=5).items

    Args:
        server: The address, ``HOST:PORT``.
        model: The name that the server has given the model.
        timeout: How many seconds a call may take.
        version: The version to ask, or None for the newest.

    Raises:
        InvalidValueError: An argument is outside its rule.
    """

    def __init__(
        self,
        server: str,
        model: str = "default",
        *,
        timeout: float = 5.0,
        version: int | None = None,
    ) -> None:
        if not server:
            raise InvalidValueError(
                "server must be an address HOST:PORT. Received: server=''"
            )
        if not model:
            raise InvalidValueError("model must not be empty. Received: model=''")
        if not timeout > 0:
            raise InvalidValueError(
                f"timeout must be more than 0 seconds. Received: timeout={timeout}"
            )
        if version is not None and version < 0:
            raise InvalidValueError(
                f"version must not be negative. Received: version={version}"
            )
        self._server = server
        self._model = model
        self._timeout = timeout
        self._version = version
        self._channel = grpc.insecure_channel(
            server,
            options=[
                # Answers to large batches pass gRPC's default of 4 MiB.
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
            ],
        )
        self._predict = self._channel.unary_unary(
            _METHOD,
            request_serializer=wire.PredictRequest.SerializeToString,
            response_deserializer=wire.PredictResponse.FromString,
        )

    def recommend(self, history: Sequence[str], k: int = 10) -> Recommendations:
        """Recommends what may come next.

        Args:
            history: Raw item ids, oldest first; at least one.
            k: How many items to recommend, at least 1.

        Returns:
            At most ``k`` items, best first.

        Raises:
            InvalidValueError: An argument is outside its rule; nothing was sent.
            ServerError: The call failed, for instance since no item of the history is
                known.
        """
        return self.recommend_batch([history], k)[0]

    def recommend_batch(
        self, histories: Sequence[Sequence[str]], k: int = 10
    ) -> list[Recommendations]:
        """Recommends after several histories in one call.

        Args:
            histories: At least one history, as in :meth:`recommend`; of any lengths.
            k: How many items to recommend after each, at least 1.

        Returns:
            The recommendations after each history, in order.

        Raises:
            InvalidValueError: An argument is outside its rule; nothing was sent.
            ServerError: The call failed. One history that the model refuses fails all.
        """
        request = _request(histories, k)
        request.model_spec.name = self._model
        if self._version is not None:
            request.model_spec.version.value = self._version
        try:
            response = self._predict(
                request, timeout=self._timeout, wait_for_ready=False
            )
        except grpc.RpcError as error:
            raise ServerError(
                self._server, error.code().name, error.details() or "no message"
            ) from error
        try:
            return _recommendations(response, len(histories))
        except (IndexError, ValueError) as error:
            raise ServerError(
                self._server,
                "OK",
                f"an answer that is not a recommender's: {error}",
            ) from error

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def __enter__(self) -> RecommenderClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _request(histories: Sequence[Sequence[str]], k: int) -> wire.PredictRequest:
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= _MAX_K:
        raise InvalidValueError(
            f"k must be a whole number from 1 to {_MAX_K}. Received: k={k!r}"
        )
    if isinstance(histories, str) or not histories:
        raise InvalidValueError(
            f"There must be at least one history. Received: histories={histories!r}"
        )
    rows = [_row(history) for history in histories]
    if len(rows) == 1:
        # A server that batches pads shorter rows at their end with what they begin with:
        # with an item, the oldest would become the newest.
        rows[0].insert(0, b"")
    length = max(map(len, rows))
    request = wire.PredictRequest()
    ids = request.inputs["history"]
    ids.dtype = wire.DT_STRING
    ids.tensor_shape.dim.add(size=len(rows))
    ids.tensor_shape.dim.add(size=length)
    for row in rows:
        ids.string_val.extend(row)
        ids.string_val.extend([b""] * (length - len(row)))
    # One for each row: a server that batches requests wants inputs of equal length.
    request.inputs["k"].dtype = wire.DT_INT32
    request.inputs["k"].tensor_shape.dim.add(size=len(rows))
    request.inputs["k"].int_val.extend([k] * len(rows))
    if len(rows) > 1:
        # Inputs that are left out have a default of one row, which a server that batches
        # does not take together with several. It does not batch what asks for some of
        # the outputs; nor need it, since this is a batch.
        request.output_filter.extend(_OUTPUTS)
    return request


def _row(history: Sequence[str]) -> list[bytes]:
    # A string is a sequence of strings too, and surely not what was meant.
    if isinstance(history, (str, bytes)) or len(history) == 0:
        raise InvalidValueError(
            "A history must be a sequence of at least one item id. Received: "
            f"history={history!r}"
        )
    row = []
    for item in history:
        # "" is padding to the model, which would skip it without a word.
        if not isinstance(item, str) or not item:
            raise InvalidValueError(
                f"An item id must be a string that is not empty. Received: {item!r}"
            )
        try:
            row.append(item.encode())
        except UnicodeEncodeError as error:
            raise InvalidValueError(
                f"An item id must be valid Unicode. Received: {item!r}"
            ) from error
    return row


def _recommendations(
    response: wire.PredictResponse, batch: int
) -> list[Recommendations]:
    """Takes an answer apart.

    Raises:
        ValueError: It is not the answer of a recommender.
    """
    missing = set(_OUTPUTS) - set(response.outputs)
    if missing:
        raise ValueError(f"it has no {', '.join(sorted(missing))}")
    items = response.outputs["items"]
    shape = [dim.size for dim in items.tensor_shape.dim]
    if len(shape) != 2 or shape[0] != batch:
        raise ValueError(f"items has shape {shape}")
    width = shape[1]
    ids = [item.decode() for item in items.string_val]
    scores = _numbers(response.outputs["scores"], "float_val", "f")
    unknown = _numbers(response.outputs["unknown_items"], "int_val", "i")
    if (len(ids), len(scores), len(unknown)) != (batch * width, batch * width, batch):
        raise ValueError("its outputs differ in length")
    version = response.model_spec.version.value
    answers = []
    for row in range(batch):
        kept = [n for n in range(row * width, (row + 1) * width) if ids[n]]
        answers.append(
            Recommendations(
                items=[ids[n] for n in kept],
                scores=[scores[n] for n in kept],
                unknown_items=unknown[row],
                model_version=version,
            )
        )
    return answers


def _numbers(tensor: wire.TensorProto, field: str, typecode: str) -> list:
    """The values, from their field or, where the server was told so, as bytes."""
    if not tensor.tensor_content:
        return list(getattr(tensor, field))
    values = array.array(typecode)
    values.frombytes(tensor.tensor_content)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tolist()
