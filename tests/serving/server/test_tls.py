"""Encryption with certificates made here, and errors that keep secrets."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

from adaptiverec.common.errors import InvalidValueError, NotFoundError
from adaptiverec.serving.event_loop import EventLoopThread
from adaptiverec.serving.health import add_health
from adaptiverec.serving.tls import server_credentials


def pem(blob: trustme.Blob) -> str:
    return blob.bytes().decode()


@pytest.fixture(scope="module")
def pki() -> SimpleNamespace:
    authority, stranger = trustme.CA(), trustme.CA()
    server = authority.issue_cert("localhost", "127.0.0.1")
    client = authority.issue_cert("client@example.org")
    return SimpleNamespace(
        ca=authority.cert_pem,
        server_key=pem(server.private_key_pem),
        server_cert="".join(pem(blob) for blob in server.cert_chain_pems),
        client_key=client.private_key_pem.bytes(),
        client_cert=client.cert_chain_pems[0].bytes(),
        stranger=stranger.issue_cert("stranger@example.org"),
        other_key=pem(stranger.issue_cert("localhost").private_key_pem),
        other_ca=stranger.cert_pem.bytes(),
    )


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write_config(**fields: str | bool) -> Path:
        file = tmp_path / "ssl.pbtxt"
        lines = []
        for name, value in fields.items():
            if isinstance(value, bool):
                lines.append(f"{name}: {str(value).lower()}")
            else:
                escaped = value.replace("\n", "\\n").replace('"', '\\"')
                lines.append(f'{name}: "{escaped}"')
        file.write_text("\n".join(lines))
        return file

    return write_config


@pytest.fixture
def serve() -> Iterator[Callable[[Path], int]]:
    loop = EventLoopThread("health", 1)
    servers = []

    async def serve_health(config: Path) -> int:
        server = grpc.aio.server()
        add_health(server).serving()
        port = server.add_secure_port("127.0.0.1:0", server_credentials(config))
        await server.start()
        servers.append(server)
        return port

    yield lambda config: loop.run(serve_health(config))
    for server in servers:
        loop.run(server.stop(None))
    loop.close()


def check(port: int, **credentials: Any) -> int:
    """Asks for the server's health as a client with these credentials."""
    channel_credentials = grpc.ssl_channel_credentials(**credentials)
    with grpc.secure_channel(f"127.0.0.1:{port}", channel_credentials) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return stub.Check(health_pb2.HealthCheckRequest(), timeout=10).status


def refusal(port: int, **credentials: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        check(port, **credentials)
    return caught.value.code()


def test_a_client_that_knows_the_authority_gets_an_answer(pki, write, serve):
    port = serve(write(server_key=pki.server_key, server_cert=pki.server_cert))
    assert check(port, root_certificates=pki.ca.bytes()) == 1
    unavailable = grpc.StatusCode.UNAVAILABLE
    assert refusal(port, root_certificates=pki.other_ca) == unavailable
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.RpcError):
            stub.Check(health_pb2.HealthCheckRequest(), timeout=10)


def test_with_client_verify_the_client_must_be_known_too(pki, write, serve):
    port = serve(
        write(
            server_key=pki.server_key,
            server_cert=pki.server_cert,
            custom_ca=pem(pki.ca),
            client_verify=True,
        )
    )
    root = {"root_certificates": pki.ca.bytes()}
    known = {"private_key": pki.client_key, "certificate_chain": pki.client_cert}
    assert check(port, **root, **known) == 1
    assert refusal(port, **root) == grpc.StatusCode.UNAVAILABLE
    stranger = {
        "private_key": pki.stranger.private_key_pem.bytes(),
        "certificate_chain": pki.stranger.cert_chain_pems[0].bytes(),
    }
    assert refusal(port, **root, **stranger) == grpc.StatusCode.UNAVAILABLE


def broken(pki: SimpleNamespace) -> list[tuple[dict[str, str | bool], str]]:
    whole = {"server_key": pki.server_key, "server_cert": pki.server_cert}
    body = pki.server_key.splitlines()
    return [
        ({"server_cert": pki.server_cert}, "without server_key"),
        ({"server_key": pki.server_key}, "without server_cert"),
        ({**whole, "client_verify": True}, "without custom_ca"),
        ({**whole, "server_key": pki.other_key}, "KEY_VALUES_MISMATCH"),
        ({**whole, "server_key": "\n".join(body[1:-1])}, "must be a key"),
        ({**whole, "server_key": pki.server_key[:100]}, "must be a key"),
        ({**whole, "server_cert": pki.server_key}, "must be a key"),
        ({**whole, "custom_ca": pki.server_key}, "custom_ca of ssl_config_file"),
        ({**whole, "custom_ca": "\u00fc"}, "custom_ca of ssl_config_file"),
        ({"server_kye": pki.server_key}, "line 1"),
        ({**whole, "no": pki.server_key}, "line 3"),
    ]


@pytest.mark.parametrize("number", range(11))
def test_what_is_wrong_is_said_without_a_word_of_the_key(pki, write, number, caplog):
    fields, message = broken(pki)[number]
    with pytest.raises(InvalidValueError) as caught:
        server_credentials(write(**fields))
    assert message in str(caught.value)
    assert "Received: " in str(caught.value)
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text
    for key in (pki.server_key, pki.other_key):
        for line in key.splitlines():
            assert line not in shown


def test_an_encrypted_key_is_refused_and_nobody_is_asked(pki, write, capfd):
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(pki.server_key.encode(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    ).decode()
    with pytest.raises(InvalidValueError, match="a key without a password"):
        server_credentials(write(server_key=encrypted, server_cert=pki.server_cert))
    assert capfd.readouterr().out == ""


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(NotFoundError, match="ssl_config_file .*none.pbtxt"):
        server_credentials(tmp_path / "none.pbtxt")
