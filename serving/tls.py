"""Encryption of the gRPC port, and who may speak to it.

Nothing here says in an error what is in a key or in the file that holds it.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from adaptiverec.common.errors import InvalidValueError
from adaptiverec.serving.config_files import read_config_file
from adaptiverec.serving.config_files_pb2 import SSLConfig

__all__ = ["server_credentials"]

_FLAG = "ssl_config_file"


def server_credentials(
    ssl_config_file: str | os.PathLike[str],
) -> grpc.ServerCredentials:
    """Reads certificate and key of the server, and whom it lets in.

    Args:
        ssl_config_file: A text proto of SSLConfig with PEMs in it: ``server_key``,
            ``server_cert`` (with what leads to its authority, if need be), ``custom_ca``
            and ``client_verify``. With the last one, a client must show a certificate
            that ``custom_ca`` has signed.

    Returns:
        What to open a secure port with.

    Raises:
        NotFoundError: There is no such file.
        InvalidValueError: It is no such proto; key or certificate is missing, broken, or
            not of the other; a client is to be verified by nobody.
    """
    config = read_config_file(ssl_config_file, SSLConfig(), flag=_FLAG, secret=True)
    key, certificate = config.server_key.encode(), config.server_cert.encode()
    authorities = config.custom_ca.encode()
    where = os.fspath(ssl_config_file)
    if not key or not certificate:
        missing = "server_cert" if key else "server_key"
        raise InvalidValueError(
            f"{_FLAG} must give server_key and server_cert. Received: {where}, without "
            f"{missing}"
        )
    if config.client_verify and not authorities:
        # gRPC would take every authority that this machine knows of.
        raise InvalidValueError(
            f"{_FLAG} must give custom_ca, who signs for clients, with client_verify. "
            f"Received: {where}, without custom_ca"
        )
    _check(key, certificate, authorities, where)
    return grpc.ssl_server_credentials(
        [(key, certificate)],
        root_certificates=authorities or None,
        require_client_auth=config.client_verify,
    )


def _check(key: bytes, certificate: bytes, authorities: bytes, where: str) -> None:
    """Loads everything once, since gRPC would only say that it has no port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        with _in_memory(key) as key_file, _in_memory(certificate) as certificate_file:
            # An encrypted key would ask whoever started the server for its password.
            context.load_cert_chain(certificate_file, key_file, password=lambda: b"")
    except (ssl.SSLError, ValueError) as error:
        raise InvalidValueError(
            f"server_key and server_cert of {_FLAG} must be a key without a password "
            f"and its certificate, in PEM. Received: {where} ({_reason(error)})"
        ) from None
    if authorities:
        try:
            context.load_verify_locations(cadata=authorities.decode("ascii"))
        except (ssl.SSLError, ValueError) as error:
            raise InvalidValueError(
                f"custom_ca of {_FLAG} must be certificates in PEM. Received: {where} "
                f"({_reason(error)})"
            ) from None


def _reason(error: Exception) -> str:
    """OpenSSL's word for it, such as KEY_VALUES_MISMATCH."""
    reason = getattr(error, "reason", None)
    return str(reason) if reason else type(error).__name__


@contextmanager
def _in_memory(data: bytes) -> Iterator[str]:
    """A file for a library that takes files only; keys must not lie on a disk."""
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
