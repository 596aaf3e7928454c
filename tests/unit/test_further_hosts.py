"""Further hosts: what the settings refuse, what runs where, and which ports are opened to whom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from providers.host_contract import HostContractProvider
from settings import SettingsError, parse
from tests.unit.recorder import Recorded, record, revealed
from tests.unit.test_components import BUILD, containers, env, networks

pytestmark = pytest.mark.usefixtures("_project")

HOST = {"address": "ssh://first", "private_address": "10.0.0.1"}
SECOND = {"address": "ssh://second", "private_address": "10.0.0.2", "dask_workers": 2}
THIRD = {"address": "ssh://third"}
STACK: Mapping[str, Any] = {
    **BUILD,
    "host": HOST,
    "hosts": {"second": SECOND, "third": THIRD},
    "workers": {
        "dask": {"pool": "dask-pool", "queues": ["dask-queue"]},
        "frames": {"pool": "frames", "requirements": ["pandas==2.3.3"], "host": "third", "replicas": 2},
    },
}


@pytest.fixture(scope="module", name="stack")
def _stack(request: pytest.FixtureRequest) -> list[Recorded]:
    request.getfixturevalue("_module_project")
    return record(STACK)


def providers(resources: list[Recorded], kind: str) -> dict[str, str]:
    """Name of each resource of a kind to the name of the Docker provider that makes it."""
    return {r.name: r.provider.split("::")[-2] for r in resources if r.kind == kind}


def test_containers_run_where_the_settings_place_them(stack: list[Recorded]) -> None:
    placed = providers(stack, "Container")
    assert {name: provider for name, provider in placed.items() if provider != "docker"} == {
        "dask-worker-second-1": "docker-host-second",
        "dask-worker-second-2": "docker-host-second",
        "prefect-worker-frames-1": "docker-host-third",
        "prefect-worker-frames-2": "docker-host-third",
    }
    assert {"dask-scheduler", "dask-worker-1", "dask-worker-2", "prefect-worker-dask-1", "minio"} <= placed.keys()


def test_a_host_has_a_network_and_the_images_that_it_needs(stack: list[Recorded]) -> None:
    made = {**providers(stack, "Network"), **providers(stack, "RemoteImage")}
    second = {name for name, provider in made.items() if provider == "docker-host-second"}
    assert second == {"second-host-network", "base@second", "prefect@second", "worker@second"}
    third = {name for name, provider in made.items() if provider == "docker-host-third"}
    assert third == {"third-host-network", "base@third", "prefect@third", "worker@third", "worker-frames@third"}
    images = {r.name: r.inputs for r in stack if r.kind == "RemoteImage"}
    assert "worker-frames" not in images, "nothing runs it on the first host"
    assert images["worker@second"]["name"] == images["worker"]["name"]
    assert images["worker@second"]["build"]["context"] != images["worker"]["build"]["context"]
    for name, container in containers(stack).items():
        if "second" in name:
            assert networks(container) == {"second-host-network": []}


def test_ports_are_opened_on_private_addresses_and_nothing_else_beyond_loopback(stack: list[Recorded]) -> None:
    published = {
        name: {(p["ip"], p["external"], p["internal"]) for p in c.get("ports", [])}
        for name, c in containers(stack).items()
    }
    assert {name: ports for name, ports in published.items() if ports} == {
        "prefect-server": {("127.0.0.1", 4200, 4200)},
        "prefect-api": {("10.0.0.1", 4200, 4200)},
        "minio": {("127.0.0.1", 9000, 9000), ("10.0.0.1", 9000, 9000), ("127.0.0.1", 9001, 9001)},
        "dask-scheduler": {("127.0.0.1", 8787, 8787), ("10.0.0.1", 8786, 8786)},
        "dask-worker-1": {("10.0.0.1", 8800, 8789)},
        "dask-worker-2": {("10.0.0.1", 8801, 8789)},
        "dask-worker-second-1": {("10.0.0.2", 8800, 8789)},
        "dask-worker-second-2": {("10.0.0.2", 8801, 8789)},
    }


def test_workers_tell_others_where_they_are_reached(stack: list[Recorded]) -> None:
    for name, contact in (("dask-worker-2", "10.0.0.1:8801"), ("dask-worker-second-1", "10.0.0.2:8800")):
        command = " ".join(containers(stack)[name]["command"])
        assert f"--contact-address tcp://{contact}" in command
        assert "--listen-address tcp://0.0.0.0:8789" in command
        assert command.startswith("dask worker tcp://10.0.0.1:8786 ")


def test_everyone_is_told_the_same_addresses(stack: list[Recorded]) -> None:
    """A task takes its flow run's API URL along to whichever Dask worker it runs on."""
    for name in ("prefect-cli", "prefect-worker-dask-1", "prefect-worker-frames-2", "dask-worker-second-1"):
        told = env(containers(stack)[name])
        assert told["PREFECT_API_URL"] == "http://10.0.0.1:4200/api", name
        assert told["DASK_SCHEDULER_ADDRESS"] == "10.0.0.1:8786", name
    blocks = [revealed(r.inputs["data"]) for r in stack if r.kind == "Block"]
    assert len(blocks) == 3
    assert {b["settings"]["client_kwargs"]["endpoint_url"] for b in blocks} == {"http://10.0.0.1:9000"}


def test_the_port_offset_counts_for_what_is_opened_too() -> None:
    moved = containers(record({**STACK, "port_offset": 1000}))
    ports = {p["external"] for name in moved for p in moved[name].get("ports", []) if p["ip"] != "127.0.0.1"}
    assert ports == {5200, 10000, 9786, 9800, 9801}
    assert env(moved["prefect-cli"])["DASK_SCHEDULER_ADDRESS"] == "10.0.0.1:9786"


def test_all_dask_workers_may_be_elsewhere() -> None:
    placed = providers(record({**STACK, "dask": {"workers": 0}}), "Container")
    assert {name for name in placed if name.startswith("dask-worker")} == {
        "dask-worker-second-1",
        "dask-worker-second-2",
    }


def test_a_private_address_alone_opens_nothing() -> None:
    alone = {**BUILD, "host": HOST}
    assert containers(record(alone)) == containers(record({**BUILD, "host": {"address": HOST["address"]}}))


def test_the_agreement_about_a_host_without_data_may_go(stack: list[Recorded]) -> None:
    assert {r.name: r.protect for r in stack if r.kind == "HostContract"} == {
        "host-terms": True,
        "host-second-terms": False,
        "host-third-terms": False,
    }


def test_another_address_of_a_further_host_is_refused_with_the_way_to_move() -> None:
    old = {"terms": {"hosts.second.address": "ssh://old"}, "setting": "hosts.second"}
    new = {"terms": {"hosts.second.address": "ssh://new"}, "setting": "hosts.second"}
    [failure] = HostContractProvider().check(dict(old), dict(new)).failures
    assert "to move what runs there, remove hosts.second, run `scripts/up`, and name the new host" in failure.reason


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"host": {"address": "ssh://first"}},
            (
                "host.private_address: what runs on second, third would not find Prefect, MinIO and Dask. Give the "
                "first host's address on the private network that the hosts share"
            ),
        ),
        (
            {"hosts": {"second": {"address": "ssh://second", "dask_workers": 1}, "third": THIRD}},
            (
                "hosts.second.private_address: the scheduler and other workers would not reach the Dask workers there. "
                "Give the host's address on the private network that the hosts share"
            ),
        ),
        (
            {"hosts": {"second": SECOND}},
            (
                "workers.frames.host: there is no hosts.third, so it would run nowhere. Name one of: second; or leave "
                "it out for the first host"
            ),
        ),
        (
            {"hosts": {"second": SECOND, "third": THIRD, "fourth": {"address": "ssh://fourth"}}},
            (
                "hosts.fourth: nothing would run there. Give it dask_workers, name it in a workers.<name>.host, or "
                "remove it"
            ),
        ),
        (
            {"profiles": {"dask": False}},
            (
                "hosts.second.dask_workers: there is no scheduler for them. Set profiles.dask: true or remove "
                "hosts.second.dask_workers"
            ),
        ),
        (
            {"hosts": {"second": {**SECOND, "private_address": "10.0.0.1"}, "third": THIRD}},
            (
                "hosts.second.private_address: 10.0.0.1 is host's already, and what is sent to one host would reach "
                "the other. Give each its own; one machine is one host"
            ),
        ),
        (
            {"hosts": {"second": {"private_address": "10.0.0.2", "dask_workers": 1}, "third": THIRD}},
            "hosts.second.address: Field required",
        ),
        (
            {"dask": {"worker_port": 8785}},
            "dask.scheduler_port: port 8786 is also dask.worker_port; one could not start. Give them different ones",
        ),
        (
            {"dask": {"worker_port": 65535}},
            "dask.worker_port: 65536 (with port_offset) is above 65535. Lower it or port_offset",
        ),
        *(
            (
                {"host": {**HOST, "private_address": address}},
                (
                    f"host.private_address: {address} is on no private network (10.0.0.0/8, 172.16.0.0/12, "
                    "192.168.0.0/16, 100.64.0.0/10), and whoever reaches the ports there can run code on the hosts. "
                    "Give the host's address on a private network or WireGuard"
                ),
            )
            for address in ("0.0.0.0", "127.0.0.1", "8.8.8.8")  # noqa: S104  (refused)
        ),
        *(
            (
                {"host": {**HOST, "private_address": address}},
                (
                    f"host.private_address: {address} is an IPv6 address, and the networks of containers have IPv4 "
                    "alone: nothing would reach it. Give the host's IPv4 address on the private network"
                ),
            )
            for address in ("::", "::1", "fd00::1")
        ),
        (
            {"host": {**HOST, "private_address": "first.internal"}},
            (
                "host.private_address: first.internal is no IP address. Give the host's on the private network, as "
                "10.0.0.5"
            ),
        ),
    ],
    ids=lambda value: value.split(":")[0] if isinstance(value, str) else "",
)
def test_error_names_path_consequence_and_fix(changes: Mapping[str, object], expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse({**STACK, **changes}, "dev")
    assert str(caught.value).splitlines() == ["Pulumi.dev.yaml can't be used:", f"  - {expected}"]


def test_no_dask_worker_anywhere_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"dask\.workers: with none here and none on further hosts"):
        parse({**BUILD, "dask": {"workers": 0}}, "dev")
