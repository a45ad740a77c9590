"""Whom a client trusts, and by what it is known itself.

Nothing here says in an error what is in a key.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import grpc

from adaptiverec.common.errors import InvalidValueError, NotFoundError

__all__ = ["channel_credentials"]


def channel_credentials(
    *,
    tls: bool,
    ca: str | None,
    certificate: str | None,
    key: str | None,
    server_name: str | None,
) -> grpc.ChannelCredentials | None:
    """Reads the certificates of a client.

    Args:
        tls: Whether to speak TLS.
        ca: PEM file of the authorities that may vouch for the server, or None for those
            that gRPC comes with.
        certificate: PEM file of the client's own certificate, and what leads to its
            authority.
        key: PEM file of its key.
        server_name: The name that the server's certificate must have, if not that of the
            address.

    Returns:
        What to open a channel with, or None without TLS.

    Raises:
        NotFoundError: A file does not exist.
        InvalidValueError: A file is no such thing; a certificate without its key; any of
            it without TLS.
    """
    given = {
        "tls_ca": ca,
        "tls_certificate": certificate,
        "tls_key": key,
        "tls_server_name": server_name,
    }
    names = [name for name, value in given.items() if value is not None]
    if not tls:
        if names:
            # Rather than guess: what is meant to be secret must not go out in the clear.
            raise InvalidValueError(
                f"tls must be true where there is {names[0]}. Received: tls=False, "
                f"{names[0]}={given[names[0]]!r}"
            )
        return None
    if (certificate is None) != (key is None):
        one, other = sorted(
            ("tls_certificate", "tls_key"), key=lambda name: given[name] is None
        )
        raise InvalidValueError(
            f"tls_certificate and tls_key must be given together. Received: {one} "
            f"without {other}"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    roots = own_key = own_certificate = None
    if ca is not None:
        roots = _read("tls_ca", ca)
        try:
            context.load_verify_locations(cadata=roots.decode("ascii"))
        except (ssl.SSLError, ValueError):
            raise InvalidValueError(
                f"tls_ca must be a file of certificates in PEM. Received: {ca}"
            ) from None
    if certificate is not None and key is not None:
        own_certificate = _read("tls_certificate", certificate)
        own_key = _read("tls_key", key)
        try:
            # An empty password: an encrypted key would be asked for on the terminal.
            context.load_cert_chain(certificate, key, password=lambda: b"")
        except (ssl.SSLError, ValueError):
            raise InvalidValueError(
                "tls_certificate and tls_key must be a certificate and its key, without a "
                f"password, in PEM. Received: {certificate} and {key}"
            ) from None
    return grpc.ssl_channel_credentials(roots, own_key, own_certificate)


def _read(name: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise NotFoundError(
            f"{name} must be a file that can be read. Received: {path} "
            f"({error.strerror})"
        ) from None
