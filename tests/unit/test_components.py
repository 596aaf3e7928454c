"""What each container, network and volume gets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from components.flow_storage import RESULTS, bucket_policy
from settings import NAMESPACE, SettingsError
from tests.unit.recorder import ROOT, Recorded, is_secret, plain, record, revealed

pytestmark = pytest.mark.usefixtures("_project")
PREFIX = "prefect-environment-test-"

FLOWS: Mapping[str, Any] = yaml.safe_load((ROOT / "Pulumi.dev.yaml").read_text())["config"][f"{NAMESPACE}:flows"]
BUILD = {"images": {"source": "build"}, "flows": FLOWS}


def containers(resources: list[Recorded]) -> dict[str, dict[str, Any]]:
    return {r.name: revealed(r.inputs) for r in resources if r.kind == "Container"}


def env(container: Mapping[str, Any]) -> dict[str, str]:
    return dict(line.split("=", 1) for line in container["envs"])


def networks(container: Mapping[str, Any]) -> dict[str, list[str]]:
    """Network to the aliases on it."""
    return {n["name"].removeprefix(PREFIX): n.get("aliases", []) for n in container["networksAdvanced"]}


@pytest.fixture(scope="module", name="stack")
def _stack(request: pytest.FixtureRequest) -> list[Recorded]:
    request.getfixturevalue("_module_project")
    return record(BUILD)


def test_who_runs(stack: list[Recorded]) -> None:
    assert sorted(containers(stack)) == [
        "dask-scheduler",
        "dask-worker-1",
        "dask-worker-2",
        "minio",
        "postgres",
        "prefect-api",
        "prefect-cli",
        "prefect-server",
        "prefect-worker-dask-1",
    ]


def test_who_joins_which_network(stack: list[Recorded]) -> None:
    joined = {name: sorted(networks(c)) for name, c in containers(stack).items()}
    flows = ["dask-network", "minio-network", "prefect-network"]
    assert joined == {
        "postgres": ["database-network"],
        "prefect-server": sorted([*flows, "caddy-network", "database-network"]),
        "minio": sorted([*flows, "caddy-network"]),
        "prefect-api": flows,
        "prefect-worker-dask-1": flows,
        "prefect-cli": flows,
        "dask-scheduler": ["dask-network"],
        "dask-worker-1": ["dask-network"],
        "dask-worker-2": ["dask-network"],
    }


def test_the_database_network_has_no_way_out(stack: list[Recorded]) -> None:
    internal = {r.name: r.inputs.get("internal", False) for r in stack if r.kind == "Network"}
    assert [name for name, inside in internal.items() if inside] == ["database-network"]
    assert len(internal) == 5


def test_short_names_answer_on_own_networks(stack: list[Recorded]) -> None:
    aliases = {name: {a for names in networks(c).values() for a in names} for name, c in containers(stack).items()}
    assert aliases == {
        "postgres": {"postgres"},
        "prefect-server": {"prefect-server"},
        "prefect-api": {"prefect-api"},
        "minio": {"minio"},
        "dask-scheduler": {"scheduler"},
        "prefect-worker-dask-1": set(),
        "prefect-cli": set(),
        "dask-worker-1": set(),
        "dask-worker-2": set(),
    }


def test_only_qualified_names_on_an_external_network() -> None:
    resources = record({**BUILD, "networks": {"dask": {"external": "shared"}}})
    scheduler = containers(resources)["dask-scheduler"]
    assert networks(scheduler) == {"shared": []}
    worker = containers(resources)["prefect-worker-dask-1"]
    assert env(worker)["DASK_SCHEDULER_ADDRESS"] == f"{PREFIX}dask-scheduler:8786"
    assert scheduler["name"] == f"{PREFIX}dask-scheduler"


def test_a_setting_claims_the_short_names() -> None:
    resources = record({**BUILD, "networks": {"dask": {"external": "shared"}, "claim_short_names": True}})
    assert networks(containers(resources)["dask-scheduler"]) == {"shared": ["scheduler"]}
    assert env(containers(resources)["prefect-cli"])["DASK_SCHEDULER_ADDRESS"] == "scheduler:8786"


def test_every_container_has_the_house_rules(stack: list[Recorded]) -> None:
    for name, container in containers(stack).items():
        assert container["name"] == container["hostname"] == PREFIX + name
        assert container["capabilities"]["drops"] == ["ALL"], name
        assert container["securityOpts"] == ["no-new-privileges=true"], name
        assert container["memory"] >= 512, name
        assert container["logOpts"] == {"max-size": "10m", "max-file": "3"}, name
        assert container["mustRun"] is False, name
        assert container["destroyGraceSeconds"] >= 10, name
        assert container.get("privileged", False) is False, name
        labels = {entry["label"]: entry["value"] for entry in container["labels"]}
        assert labels["prefect-environment.project"] == "prefect-environment"
        assert labels["prefect-environment.stack"] == "test"
        assert labels["prefect-environment.name"] == name
        assert labels["prefect-environment.memory-setting"].endswith("memory_mb")


def test_services_restart_and_the_cli_box_waits_to_be_called(stack: list[Recorded]) -> None:
    assert {name: c["restart"] for name, c in containers(stack).items() if c["restart"] != "unless-stopped"} == {
        "prefect-cli": "no"
    }
    cli = containers(stack)["prefect-cli"]
    assert (cli["start"], cli["tty"], cli["stdinOpen"], cli["workingDir"]) == (False, True, True, "/root/flows")
    assert cli["volumes"] == [{"containerPath": "/root/flows", "hostPath": str(ROOT / "flows")}]


def test_only_postgres_keeps_capabilities(stack: list[Recorded]) -> None:
    kept = {name: c["capabilities"].get("adds", []) for name, c in containers(stack).items()}
    assert {name for name, adds in kept.items() if adds} == {"postgres"}


def test_ports_are_published_on_loopback_only(stack: list[Recorded]) -> None:
    published = {
        name: {(p["ip"], p["external"], p["internal"]) for p in c.get("ports", [])}
        for name, c in containers(stack).items()
    }
    assert {name: ports for name, ports in published.items() if ports} == {
        "prefect-server": {("127.0.0.1", 4200, 4200)},
        "minio": {("127.0.0.1", 9000, 9000), ("127.0.0.1", 9001, 9001)},
        "dask-scheduler": {("127.0.0.1", 8787, 8787)},
    }


def test_a_port_offset_moves_every_port() -> None:
    moved = record({**BUILD, "port_offset": 1000})
    ports = sorted(p["external"] for c in containers(moved).values() for p in c.get("ports", []))
    assert ports == [5200, 9787, 10000, 10001]


def test_services_have_health_checks_that_an_edit_replaces(stack: list[Recorded]) -> None:
    checked = {name for name, c in containers(stack).items() if "healthcheck" in c}
    assert {"postgres", "prefect-server", "prefect-api", "minio", "dask-scheduler", "dask-worker-1"} <= checked
    assert "prefect-cli" not in checked
    for resource in stack:
        if resource.kind == "Container":
            assert resource.replace_on_changes == ("healthcheck", "tmpfs", "init")
            assert resource.delete_before_replace


def test_a_new_postgres_password_replaces_no_postgres(stack: list[Recorded]) -> None:
    [role] = [r for r in stack if r.kind == "Role"]
    assert revealed(role.inputs)["password"] == "generated-postgres-password"
    assert is_secret(role.inputs["password"])
    assert "generated-postgres-password" not in json.dumps(containers(stack)["postgres"])
    [postgres] = [r for r in stack if r.kind == "Container" and r.name == "postgres"]
    assert postgres.urn in role.depends_on
    assert role.deleted_with == postgres.urn


def test_no_secret_is_sent_in_plain(stack: list[Recorded]) -> None:
    """Every generated secret appears only below a secret marker."""

    sent = [r for r in stack if "generated-" in json.dumps(r.inputs)]
    assert {"Container", "AccessKey", "Block", "Bucket", "User"} <= {r.kind for r in sent}
    for resource in stack:
        assert "generated-" not in json.dumps(plain(resource.inputs)), resource.name


def test_server_environment(stack: list[Recorded]) -> None:
    assert env(containers(stack)["prefect-server"]) == {
        "PREFECT_DEFAULT_RESULT_STORAGE_BLOCK": "remote-file-system/flow-results",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "http://127.0.0.1:4200",
        "PREFECT_SERVER_DATABASE_DRIVER": "postgresql+asyncpg",
        "PREFECT_SERVER_DATABASE_HOST": "postgres",
        "PREFECT_SERVER_DATABASE_NAME": "prefect",
        "PREFECT_SERVER_DATABASE_PASSWORD": "generated-postgres-password",
        "PREFECT_SERVER_DATABASE_PORT": "5432",
        "PREFECT_SERVER_DATABASE_USER": "prefect",
        "PREFECT_SERVER_EVENTS_EXPIRED_BUCKET_BUFFER": "P1D",
        "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "P7D",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(90 * 86400),
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "FORMER_API_AUTH_STRING": "admin:generated-prefect-api-password",
        "PREFECT_SERVER_API_AUTH_STRING": "admin:generated-prefect-api-password",
        "PREFECT_UI_API_URL": "/api",
        "PREFECT_UI_URL": "http://127.0.0.1:4200",
    }


def test_flow_runs_are_kept_for_ever_when_asked() -> None:
    server = env(containers(record({**BUILD, "server": {"flow_run_retention_days": None}}))["prefect-server"])
    assert server["PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED"] == "events"


@pytest.mark.parametrize("name", ["prefect-cli", "dask-worker-2"])
def test_environment_of_prefect_clients(stack: list[Recorded], name: str) -> None:
    assert env(containers(stack)[name]) == {
        "AWS_MAX_ATTEMPTS": "10",
        "AWS_RETRY_MODE": "standard",
        "DASK_SCHEDULER_ADDRESS": "scheduler:8786",
        "DO_NOT_TRACK": "1",
        "PREFECT_API_AUTH_STRING": "admin:generated-prefect-api-password",
        "PREFECT_API_URL": "http://prefect-api:4200/api",
        "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",
        "PREFECT_CLIENT_MAX_RETRIES": "7",
        "PREFECT_DEFAULT_RESULT_STORAGE_BLOCK": "remote-file-system/flow-results",
        "PREFECT_UI_URL": "http://127.0.0.1:4200",
    }


def test_no_rotation_ends_the_dask_scheduler_and_with_it_all_runs(stack: list[Recorded]) -> None:
    assert env(containers(stack)["dask-scheduler"]) == {}


def test_a_worker_is_a_client_that_looks_often(stack: list[Recorded]) -> None:
    containers_env = {name: env(c) for name, c in containers(stack).items()}
    worker, cli = containers_env["prefect-worker-dask-1"], containers_env["prefect-cli"]
    assert cli.items() <= worker.items()
    assert worker["PREFECT_WORKER_QUERY_SECONDS"] == "5"
    assert worker["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"


def test_minio_is_told_its_public_urls() -> None:
    public = {"server_url": "https://storage.example", "browser_redirect_url": "https://console.example"}
    minio = env(containers(record({**BUILD, "minio": public}))["minio"])
    assert minio["MINIO_SERVER_URL"] == "https://storage.example"
    assert minio["MINIO_BROWSER_REDIRECT_URL"] == "https://console.example"


def test_data_volumes_outlive_mistakes(stack: list[Recorded]) -> None:
    volumes = {r.name: r for r in stack if r.kind == "Volume"}
    assert sorted(volumes) == ["minio-data", "postgres-data"]
    for volume in volumes.values():
        assert volume.protect
        assert volume.retain_on_delete
    [terms] = [r for r in stack if r.kind == "DataContract" and r.name == "postgres-data-terms"]
    assert terms.protect
    assert terms.urn in volumes["postgres-data"].depends_on
    assert terms.inputs["volume"] == volumes["postgres-data"].inputs["name"]
    assert terms.inputs["terms"] == {
        "Postgres major version": "15",
        "images.source": "build",
        "path": "/var/lib/postgresql/data",
    }


def test_secrets_that_open_data_are_protected(stack: list[Recorded]) -> None:
    secrets = {r.name for r in stack if r.protect and r.kind == "GeneratedSecret"}
    assert secrets == {
        "minio-root-password",
        "postgres-password",
        "prefect-api-password",
        "prefect-user-key-secret",
        "prefect-user-secret",
    }


def test_the_shared_workers_survive_another_workers_packages() -> None:
    before = containers(record(BUILD))
    after = containers(record({**BUILD, "workers": {
        "dask": {"pool": "dask-pool", "queues": ["dask-queue"]},
        "frames": {"pool": "frames", "requirements": ["pandas==2.3.3"]},
    }}))  # fmt: skip
    assert set(after) - set(before) == {"prefect-worker-frames-1"}
    assert {name: after[name] for name in before} == before


def test_a_worker_waits_for_its_pool_and_drains(stack: list[Recorded]) -> None:
    worker = containers(stack)["prefect-worker-dask-1"]
    command = " ".join(worker["command"])
    assert "--no-create-pool-if-not-found" in command
    assert "--pool dask-pool" in command
    assert "--work-queue dask-queue" in command
    assert "--limit 6" in command
    assert worker["destroyGraceSeconds"] > int(env(worker)["DRAIN_SECONDS"]) == 300


def test_dask_workers_know_their_memory() -> None:
    resources = record({**BUILD, "dask": {"memory_mb": 2048}})
    worker = containers(resources)["dask-worker-1"]
    assert worker["memory"] == 2048
    assert "--memory-limit 2048MiB" in " ".join(worker["command"])


def test_replicas_are_containers() -> None:
    workers = {"dask": {"pool": "p", "replicas": 3}}
    names = [name for name in containers(record({**BUILD, "flows": {}, "workers": workers})) if "worker-dask" in name]
    assert sorted(names) == ["prefect-worker-dask-1", "prefect-worker-dask-2", "prefect-worker-dask-3"]


@pytest.mark.parametrize(
    ("profiles", "gone"),
    [
        ({"agent": False}, {"prefect-worker-dask-1"}),
        ({"cli": False}, {"prefect-cli"}),
        ({"dask": False}, {"dask-scheduler", "dask-worker-1", "dask-worker-2"}),
        ({"minio": False}, {"minio"}),
        (
            {"orion": False, "agent": False, "cli": False},
            {"postgres", "prefect-server", "prefect-api", "prefect-worker-dask-1", "prefect-cli"},
        ),
    ],
)
def test_profiles_switch_parts_off(stack: list[Recorded], profiles: Mapping[str, bool], gone: set[str]) -> None:
    flows = {} if {"minio", "orion"} & set(profiles) else FLOWS
    left = set(containers(record({**BUILD, "flows": flows, "profiles": profiles})))
    assert set(containers(stack)) - left == gone


def test_an_external_dask_cluster_is_named_to_flows() -> None:
    resources = record({
        **BUILD,
        "profiles": {"dask": False},
        "dask": {"address": "tls://dask.example:8786"},
        "networks": {"dask": {"external": "theirs"}},
    })  # fmt: skip
    worker = containers(resources)["prefect-worker-dask-1"]
    assert env(worker)["DASK_SCHEDULER_ADDRESS"] == "tls://dask.example:8786"
    assert "theirs" in networks(worker)


def test_a_password_in_plain_text_is_refused_with_the_command_that_sets_it() -> None:
    with pytest.raises(
        SettingsError, match=r"postgres\.password: it is in plain text(.|\n)*config set --secret --path"
    ):
        record({**BUILD, "postgres": {"password": "hunter2-hunter2"}})


def test_results_have_a_place_of_their_own_and_go_when_they_are_told_to(stack: list[Recorded]) -> None:
    blocks = {r.name: revealed(r.inputs["data"])["basepath"] for r in stack if r.kind == "Block"}
    assert (blocks["dask-block"], blocks["flow-results"]) == ("s3://flows", f"s3://flows/{RESULTS}")
    # Without days, too: a rule that a stack had before it was taken down must go, not go on.
    [none] = [r for r in stack if r.kind == "Expiry"]
    assert "days" not in none.inputs
    [rule] = [r for r in record({**BUILD, "retention": {"results_days": 30}}) if r.kind == "Expiry"]
    asked = {key: rule.inputs[key] for key in ("bucket", "prefix", "days")}
    assert asked == {"bucket": "flows", "prefix": f"{RESULTS}/", "days": 30}
    with pytest.raises(SettingsError, match=r"flows\._results: "):
        record({**BUILD, "flows": {RESULTS: FLOWS["greetings"]}})


def test_secrets_of_the_settings_are_blocks_one_after_the_first() -> None:
    given = {"weather-token": "hunter2-hunter2", "billing": '{"user": "ann"}'}
    resources = record({**BUILD, "flows": FLOWS, "secrets": given}, secret=("secrets",))
    blocks = {r.name: r for r in resources if r.kind == "Block"}
    for name, value in given.items():
        assert blocks[name].inputs["block_type"] == "secret"
        assert is_secret(blocks[name].inputs["data"])
        assert revealed(blocks[name].inputs["data"]) == {"value": value}
    # The server makes its encryption key with the first block, and two at once collide.
    first, *others = blocks.values()
    assert all(first.urn in each.depends_on for each in others)


def test_a_secret_in_plain_text_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"secrets\.token: it is in plain text(.|\n)*:secrets\.token'"):
        record({**BUILD, "secrets": {"token": "hunter2"}})


def test_a_password_from_a_config_secret_is_used_and_stays_secret() -> None:
    resources = record({**BUILD, "postgres": {"password": "hunter2-hunter2"}}, secret=("postgres",))
    [role] = [r for r in resources if r.kind == "Role"]
    assert revealed(role.inputs["password"]) == "hunter2-hunter2"
    assert is_secret(role.inputs["password"])
    server = containers(resources)["prefect-server"]
    assert env(server)["PREFECT_SERVER_DATABASE_PASSWORD"] == "hunter2-hunter2"


def test_bad_settings_declare_nothing() -> None:
    with pytest.raises(SettingsError, match="there is no such setting"):
        record({"images": {"sourec": "build"}})


def test_pulled_images_are_the_references_and_prefect_is_built_on_its_own() -> None:
    images = {r.name: r.inputs for r in record({"flows": FLOWS}) if r.kind == "RemoteImage"}
    assert set(images) == {"prefect", "worker", "postgres", "minio"}
    assert images["prefect"]["build"]["buildArgs"]["BASE"].startswith("prefecthq/prefect:3.8.8")
    assert images["postgres"]["name"].startswith("postgres:17")
    assert images["minio"]["name"].startswith("pgsty/silo:RELEASE.")
    assert images["worker"]["build"]["buildArgs"]["BASE"] == images["prefect"]["name"]


def test_a_policy_allows_one_bucket() -> None:
    resources = [r for statement in bucket_policy("flows")["Statement"] for r in statement["Resource"]]  # type: ignore[attr-defined]
    assert resources == ["arn:aws:s3:::flows", "arn:aws:s3:::flows/*"]


def reaches(resource: Recorded, target: str, by_urn: Mapping[str, Recorded]) -> bool:
    """Whether `target` is among what `resource` depends on, directly or through others."""
    return target in resource.depends_on or any(
        reaches(by_urn[urn], target, by_urn) for urn in resource.depends_on if urn in by_urn
    )


def test_every_dynamic_resource_waits_for_the_container_that_serves_it(stack: list[Recorded]) -> None:
    """Four waiting creates would block the provider process for ever: see docs/adr/0006."""
    by_urn = {r.urn: r for r in stack}
    serving = {r.name: r.urn for r in stack if r.kind == "Container"}
    dynamic = [r for r in stack if "__provider" in r.inputs]
    assert len(dynamic) == 25
    [role] = [r for r in dynamic if r.kind == "Role"]
    for resource in dynamic:
        if "connection" not in resource.inputs:
            assert not resource.depends_on, f"{resource.name} must wait for nothing"
            continue
        inputs = revealed(resource.inputs)
        server = str(inputs.get("container") or inputs["connection"]["server"]).removeprefix(PREFIX)
        assert reaches(resource, serving[server], by_urn), resource.name
        assert resource.deleted_with == serving[server], resource.name
        if server == "prefect-server":
            assert reaches(resource, role.urn, by_urn), f"{resource.name} would wait for a server that nobody lets in"


def test_everything_starts_at_once(stack: list[Recorded]) -> None:
    """No container depends on another one."""
    by_urn = {r.urn: r for r in stack}
    serving = {r.urn for r in stack if r.kind == "Container"}
    for resource in stack:
        if resource.kind == "Container":
            assert not any(reaches(resource, other, by_urn) for other in serving - {resource.urn}), resource.name


def test_children_have_their_component_as_parent(stack: list[Recorded]) -> None:
    root = next(r.urn for r in stack if r.type == "pulumi:pulumi:Stack")
    tops = {r.type.partition(":")[0] for r in stack if r.parent == root}
    assert tops == {"prefect-environment", "pulumi"}
