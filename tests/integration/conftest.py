"""The real servers that integration tests call, on loopback."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import urllib3
from minio import Minio, MinioAdmin
from minio.credentials.providers import StaticProvider

from providers.connection import MinioConnection
from tests.integration.harness import fresh_process
from tests.integration.ports import free_port
from toolchain.artefacts import artefact, built

__all__ = ["fresh_process"]

START_SECONDS = 30


@dataclass(frozen=True)
class RunningMinio:
    """A MinIO of this test session."""

    connection: MinioConnection
    s3: Minio
    admin: MinioAdmin


@pytest.fixture(scope="session")
def minio_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMinio]:
    """Run the MinIO that the environment runs."""
    binary = artefact("minio")
    if not built(binary):
        pytest.fail(
            f"{binary.path} is missing: run `scripts/toolchain minio` (about {binary.minutes} minutes)"
        )
    directory = tmp_path_factory.mktemp("minio")
    port = free_port()
    user, password = "root-user", secrets.token_hex(16)
    with (
        (directory / "log").open("wb") as log,
        subprocess.Popen(
            [
                str(binary.path),
                "server",
                str(directory / "data"),
                "--quiet",
                f"--address=127.0.0.1:{port}",
                f"--console-address=127.0.0.1:{free_port()}",
            ],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(directory),
                "MINIO_ROOT_USER": user,
                "MINIO_ROOT_PASSWORD": password,
            },
            stdout=log,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(f"{url}/minio/health/ready", process)
            connection = MinioConnection(server="minio-test", url=url, access_key=user, secret_key=password)
            yield RunningMinio(
                connection,
                Minio(endpoint=f"127.0.0.1:{port}", access_key=user, secret_key=password, secure=False),
                MinioAdmin(
                    endpoint=f"127.0.0.1:{port}", credentials=StaticProvider(user, password), secure=False
                ),
            )
        finally:
            process.terminate()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            if urllib3.request("GET", url, retries=False, timeout=1).status == 200:
                return
        except urllib3.exceptions.HTTPError:
            pass
        time.sleep(0.1)
    pytest.fail(f"MinIO did not get ready at {url} within {START_SECONDS} s (exit code {process.poll()})")
