"""The policy pack as its own process, asked as Pulumi's engine asks it."""

from __future__ import annotations

import select
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any, Final

import grpc  # type: ignore[import-untyped]  # no stubs among ours for one call
import pytest
from google.protobuf import json_format, struct_pb2
from pulumi.runtime.proto import analyzer_pb2, analyzer_pb2_grpc

from scripts.lib.policy import PACK, PACK_PYTHON, make_venv

UNKNOWN: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""How the engine says that a string is not known yet."""
CONTAINER: Final = "docker:index/container:Container"
SOUND: Final[Mapping[str, Any]] = {
    "image": "sha256:1",
    "restart": "unless-stopped",
    "memory": 512,
    "logOpts": {"max-size": "10m", "max-file": "3"},
}

START_SECONDS = 30


@pytest.fixture(scope="module", name="pack")
def _pack() -> Iterator[analyzer_pb2_grpc.AnalyzerStub]:
    make_venv()
    with subprocess.Popen([PACK_PYTHON, "-u", PACK, "127.0.0.1:1"], stdout=subprocess.PIPE) as process:
        assert process.stdout
        try:
            assert select.select([process.stdout], [], [], START_SECONDS)[0], "it tells no port"
            port = int(process.stdout.readline())
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield analyzer_pb2_grpc.AnalyzerStub(channel)
        finally:
            process.terminate()


def struct(properties: Mapping[str, Any]) -> struct_pb2.Struct:
    return json_format.ParseDict(dict(properties), struct_pb2.Struct())


def analyzed(pack: analyzer_pb2_grpc.AnalyzerStub, properties: Mapping[str, Any]) -> list[tuple[str, str]]:
    request = analyzer_pb2.AnalyzeRequest(type=CONTAINER, name="c", urn="urn:c", properties=struct(properties))
    return [(d.policyName, d.message) for d in pack.Analyze(request, timeout=10).diagnostics]


def test_it_tells_its_policies_and_which_of_them_stop_an_up(pack: analyzer_pb2_grpc.AnalyzerStub) -> None:
    from google.protobuf.empty_pb2 import Empty

    info = pack.GetAnalyzerInfo(Empty(), timeout=10)
    levels = {policy.name: analyzer_pb2.EnforcementLevel.Name(policy.enforcementLevel) for policy in info.policies}
    assert levels == {
        "bases-are-pinned": "ADVISORY",
        "containers-are-bounded": "MANDATORY",
        "images-are-pinned": "MANDATORY",
        "no-secret-is-readable": "MANDATORY",
        "ports-stay-inside": "MANDATORY",
        "volumes-are-protected": "MANDATORY",
    }


def test_a_sound_container_passes_and_an_open_one_is_named(pack: analyzer_pb2_grpc.AnalyzerStub) -> None:
    assert analyzed(pack, SOUND) == []
    [(policy, message)] = analyzed(pack, {**SOUND, "ports": [{"internal": 80, "external": 80}]})
    assert policy == "ports-stay-inside"
    assert "c: port 80 is published on 0.0.0.0" in message
    assert "Publish it on 127.0.0.1" in message


def test_what_only_the_up_will_tell_stops_no_preview(pack: analyzer_pb2_grpc.AnalyzerStub) -> None:
    assert analyzed(pack, {**SOUND, "image": UNKNOWN, "labels": [{"label": "l", "value": UNKNOWN}]}) == []


def test_protection_is_seen(pack: analyzer_pb2_grpc.AnalyzerStub) -> None:
    def problems(*, protect: bool) -> list[str]:
        request = analyzer_pb2.AnalyzeRequest(
            type="docker:index/volume:Volume",
            name="v",
            properties=struct({}),
            options=analyzer_pb2.AnalyzerResourceOptions(protect=protect),
        )
        return [d.policyName for d in pack.Analyze(request, timeout=10).diagnostics]

    assert problems(protect=True) == []
    assert problems(protect=False) == ["volumes-are-protected"]


def test_a_generated_secret_is_found_in_another_resources_command(pack: analyzer_pb2_grpc.AnalyzerStub) -> None:
    secret = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "value": "generated-it-was"}

    def leaks(command: list[str]) -> list[tuple[str, str, str]]:
        resources = [
            analyzer_pb2.AnalyzerResource(
                type="pulumi-python:dynamic:GeneratedSecret",
                name="s",
                urn="urn:s",
                properties=struct({"value": secret}),
            ),
            analyzer_pb2.AnalyzerResource(
                type=CONTAINER, name="c", urn="urn:c", properties=struct({**SOUND, "command": command, "id": UNKNOWN})
            ),
        ]
        answer = pack.AnalyzeStack(analyzer_pb2.AnalyzeStackRequest(resources=resources), timeout=10)
        return [(d.policyName, d.urn, d.message) for d in answer.diagnostics]

    assert leaks(["serve", "quietly"]) == []
    [(policy, urn, message)] = leaks(["serve", "--seed", "generated-it-was"])
    assert (policy, urn) == ("no-secret-is-readable", "urn:c")
    assert "generated-it-was" not in message
