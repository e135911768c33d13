"""An S3 server in this process: moto's, which keeps objects in memory and knows conditional create.

With ``pytest --s3 http://HOST:PORT`` the same tests run on a real store, with the credentials of the environment.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest
from obstore.store import S3Store

CREDENTIALS = {name: os.environ.get(name, "test") for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}


@pytest.fixture(scope="session")
def s3_endpoint(request: pytest.FixtureRequest) -> Iterator[str]:
    """Its URL."""
    if given := request.config.getoption("--s3"):
        yield str(given)
        return
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
    _client(endpoint).create_bucket(Bucket=name)
    return name


def empty(endpoint: str, bucket: str, prefix: str) -> None:
    """Delete every object whose name begins with `prefix`."""
    client = _client(endpoint)
    while found := client.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents"):
        client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": each["Key"]} for each in found]})


def _client(endpoint: str) -> Any:
    import boto3  # type: ignore[import-untyped]

    return boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1",
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    )  # fmt: skip


def served_bucket(endpoint: str) -> S3Store:
    """A store in a bucket of its own."""
    return S3Store(
        make_bucket(endpoint),
        prefix="a/prefix",
        endpoint=endpoint,
        region="us-east-1",
        access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        conditional_put="etag",
        client_options={"allow_http": True},
    )
