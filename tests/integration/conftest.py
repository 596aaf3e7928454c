"""The real servers that integration tests call, on loopback."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import urllib3
from minio import Minio, MinioAdmin
from minio.credentials.providers import StaticProvider

from providers.connection import MinioConnection
from tests.integration.harness import fresh_process
from tests.integration.ports import free_port
from tests.integration.prefect_server import prefect_server
from toolchain.artefacts import artefact, built

__all__ = ["fresh_process", "prefect_server"]

START_SECONDS = 30
ROOT = "root-user"


@dataclass(frozen=True)
class RunningMinio:
    """A MinIO, and its own client to see and disturb things with."""

    port: int
    connection: MinioConnection
    s3: Minio
    admin: MinioAdmin


@contextmanager
def running_minio(directory: Path, password: str, port: int | None = None) -> Iterator[RunningMinio]:
    """Run the MinIO that the environment runs, on what `directory` holds, until the block ends."""
    binary = artefact("minio")
    if not built(binary):
        pytest.fail(f"{binary.path} is missing: run `scripts/toolchain minio` (about {binary.minutes} minutes)")
    port = port or free_port()
    endpoint = f"127.0.0.1:{port}"
    command = [
        str(binary.path),
        "server",
        str(directory / "data"),
        f"--address={endpoint}",
        f"--console-address=127.0.0.1:{free_port()}",
    ]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "MINIO_ROOT_USER": ROOT,
        "MINIO_ROOT_PASSWORD": password,
    }
    with (
        (directory / "log").open("ab") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        try:
            url = f"http://{endpoint}"
            _wait(f"{url}/minio/health/ready", process)
            yield RunningMinio(
                port,
                MinioConnection(server="minio-test", url=url, access_key=ROOT, secret_key=password),
                Minio(endpoint=endpoint, access_key=ROOT, secret_key=password, secure=False),
                MinioAdmin(endpoint=endpoint, credentials=StaticProvider(ROOT, password), secure=False),
            )
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def minio_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMinio]:
    """One MinIO for all tests that leave it running; they take names of their own."""
    with running_minio(tmp_path_factory.mktemp("minio"), secrets.token_hex(16)) as running:
        yield running


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
