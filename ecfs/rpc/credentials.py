"""Certificates on both sides. Each side shows its own and accepts those that one CA, the pool's, has signed."""

from __future__ import annotations

import grpc

from ecfs.rpc.tls import TlsFiles


def client_credentials(files: TlsFiles) -> grpc.ChannelCredentials:
    ca, cert, key = files.read()
    return grpc.ssl_channel_credentials(ca, key, cert)


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Clients without a certificate of this CA don't get past the handshake."""
    ca, cert, key = files.read()
    return grpc.ssl_server_credentials([(key, cert)], root_certificates=ca, require_client_auth=True)
