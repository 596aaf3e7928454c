"""Results that were kept before they had a place of their own."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

from components.flow_storage import BLOCK, BLOCK_TYPE, RESULT_BLOCK, RESULTS
from components.prefect_client import result_env
from tests.integration.conftest import RunningMinio
from tests.integration.prefect_server import AUTH, RunningPrefect

SAVE = """
import json, sys
from prefect.filesystems import RemoteFileSystem

for name, basepath in json.loads(sys.argv[1]).items():
    RemoteFileSystem(basepath=basepath, settings=json.loads(sys.argv[2])).save(name)
"""
KEEP = """
from prefect import flow

@flow(persist_result=True)
def answer():
    return 42

print(answer(return_state=True).state_details.flow_run_id)
"""
READ = """
import sys
from prefect.client.orchestration import get_client

with get_client(sync_client=True) as client:
    print(*(client.read_flow_run(each).state.result() for each in sys.argv[1:]))
"""


def test_they_stay_readable_and_new_ones_go_to_their_place(
    prefect_server: RunningPrefect, minio_server: RunningMinio, tmp_path: Path
) -> None:
    own, store = secrets.token_hex(4), minio_server.connection
    bucket, before, after = f"bucket-{own}", f"{BLOCK}-{own}", f"{RESULT_BLOCK}-{own}"  # Others use the server, too.
    minio_server.s3.make_bucket(bucket_name=bucket)

    def run(code: str, *words: str, block: str) -> str:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "PREFECT_API_URL": prefect_server.connection["url"],
            "PREFECT_API_AUTH_STRING": AUTH,
            "DO_NOT_TRACK": "1",
        }
        done = subprocess.run(
            [sys.executable, "-", *words],
            env=environment | result_env(block), input=code, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def kept() -> set[bool]:
        listed = minio_server.s3.list_objects(bucket_name=bucket, recursive=True)
        return {str(each.object_name).startswith(f"{RESULTS}/") for each in listed}

    assert result_env(BLOCK) == {"PREFECT_DEFAULT_RESULT_STORAGE_BLOCK": f"{BLOCK_TYPE}/{BLOCK}"}
    places = {before: f"s3://{bucket}", after: f"s3://{bucket}/{RESULTS}"}
    key = {"key": store["access_key"], "secret": store["secret_key"], "client_kwargs": {"endpoint_url": store["url"]}}
    run(SAVE, json.dumps(places), json.dumps(key), block=before)
    old = run(KEEP, block=before)
    assert kept() == {False}
    new = run(KEEP, block=after)
    assert kept() == {False, True}
    assert run(READ, old, new, block=after) == "42 42"
