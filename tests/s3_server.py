"""An S3 server in this process: moto's, which keeps objects in memory and knows conditional create."""

from __future__ import annotations

import logging
import os
import urllib.request
from collections.abc import Iterator

import pytest
from obstore.store import S3Store

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Its URL."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    yield f"http://127.0.0.1:{port}"
    server.stop()


def make_bucket(endpoint: str) -> str:
    """A new bucket's name."""
    name = f"bucket-{os.urandom(6).hex()}"
    with urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{name}", method="PUT")) as answer:
        assert answer.status == 200
    return name


def served_bucket(endpoint: str) -> S3Store:
    """A store in a bucket of its own."""
    return S3Store(
        make_bucket(endpoint),
        prefix="a/prefix",
        endpoint=endpoint,
        region="us-east-1",
        access_key_id="test",
        secret_access_key="test",
        conditional_put="etag",
        client_options={"allow_http": True},
    )
