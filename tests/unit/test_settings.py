"""Every settings error: its path, its consequence and its fix."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from settings import NAMESPACE, ImageSource, Settings, SettingsError, load, parse, requirement_lines

ROOT = Path(__file__).resolve().parents[2]
GREETINGS = {
    "path": "flows/greetings",
    "worker": "dask",
    "deployments": {"d": {"entrypoint": "dask_flow.py:greetings"}},
}


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def problems(values: Mapping[str, object], stack: str = "dev") -> list[str]:
    with pytest.raises(SettingsError) as caught:
        parse(values, stack)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"imagse": {}},
            (
                "imagse: there is no such setting; it would be ignored. Remove it, or look for its name in "
                "docs/settings.md"
            ),
        ),
        (
            {"postgres": {"pasword": "x"}},
            (
                "postgres.pasword: there is no such setting; it would be ignored. Remove it, or look for its name in "
                "docs/settings.md"
            ),
        ),
        (
            {"host": {"address": "host.example.com"}},
            (
                "host.address: host.example.com is no Docker endpoint. Write unix:///var/run/docker.sock, "
                "tcp://host:2376 or ssh://user@host"
            ),
        ),
        (
            {"host": {"address": "ssh://me:pw@host"}},
            "host.address: an ssh address holds no password, which anybody could read here. Use a key",
        ),
        (
            {"host": {"address": "ssh://host", "ssh_options": {"StrictHostKeyChecking": "no"}}},
            (
                "host.ssh_options: StrictHostKeyChecking can't be set: host keys are always checked, and nothing asks "
                "at a terminal. Remove it"
            ),
        ),
        (
            {"host": {"ssh_options": {"ProxyJump": "bastion"}}},
            "host.ssh_options: they are for an ssh:// address, and would not be used. Remove them",
        ),
        (
            {"host": {"address": "tcp://host.example.com:2376"}},
            (
                "host.tls_directory: without TLS everyone who can reach the port would own the host. Name the "
                "directory with ca.pem, cert.pem and key.pem, or use an ssh:// address"
            ),
        ),
        (
            {"host": {"address": "ssh://host"}, "cli": {"flows_directory": "flows"}},
            (
                "cli.flows_directory: flows is relative to a directory of this machine, which the host ssh://host "
                "can't see. Give the whole path on that host, or leave it out"
            ),
        ),
        ({"images": {"source": "pull"}}, "images.source: Input should be 'registry' or 'build'"),
        (
            {"images": {"index_url": "https://me:pw@index.example/simple"}},
            (
                "images.index_url: the URL holds a password, which would be readable in the image's history; use a "
                "host that needs none, or put the credentials into the proxy itself"
            ),
        ),
        (
            {"images": {"proxy": "http://me:pw@proxy.example:3128"}},
            (
                "images.proxy: the URL holds a password, which would be readable in the image's history; use a host "
                "that needs none, or put the credentials into the proxy itself"
            ),
        ),
        (
            {"images": {"ca_bundle": "no/such.pem"}},
            (
                "images.ca_bundle: no/such.pem is no PEM file with certificates; builds would fail on TLS. Name an "
                "existing file"
            ),
        ),
        (
            {"images": {"postgres": "postgres:latest"}},
            (
                "images.postgres: postgres:latest does not say a version, and another major version can't read the "
                "data. Use a tag that begins with it, such as postgres:17.10-bookworm"
            ),
        ),
        (
            {"profiles": {"orion": False, "cli": False}},
            (
                "profiles.agent: the workers would have no API to talk to. Set profiles.orion: true or profiles.agent: "
                "false"
            ),
        ),
        (
            {"profiles": {"orion": False, "agent": False}},
            "profiles.cli: the CLI box would have no API to talk to. Set profiles.orion: true or profiles.cli: false",
        ),
        (
            {"profiles": {"minio": False}, "flows": {"g": GREETINGS}},
            (
                "flows: deployments live in the Prefect server and their code in MinIO. Set profiles.orion and "
                "profiles.minio to true, or remove the flows"
            ),
        ),
        (
            {"dask": {"address": "scheduler.example:8786"}},
            (
                "dask.address: it names an external cluster while profiles.dask starts another one that nothing would "
                "use. Set profiles.dask: false or remove the address"
            ),
        ),
        (
            {"dask": {"image_of": "pandas"}},
            "dask.image_of: there is no workers.pandas, so Dask would have no image. Name one of: dask",
        ),
        (
            {"server": {"port": 9000}},
            "minio.api_port: port 9000 is also server.port; one could not start. Give them different ones",
        ),
        (
            {"port_offset": 50000, "minio": {"console_port": 19001}},
            "minio.console_port: 69001 (with port_offset) is above 65535. Lower it or port_offset",
        ),
        (
            {"flows": {"g": {**GREETINGS, "worker": "dusk"}}},
            (
                "flows.g.worker: there is no workers.dusk, so its runs would stay late for ever. Name one of: dask; or "
                "leave it out to get one of its own"
            ),
        ),
        (
            {"flows": {"g": {**GREETINGS, "queue": "slow"}}},
            (
                "flows.g.queue: workers.dask does not serve slow, so its runs would stay late for ever. Name one of: "
                "dask-queue"
            ),
        ),
        (
            {"flows": {"dask": {key: GREETINGS[key] for key in ("path", "deployments")}}},
            (
                "flows.dask: its own worker would be named like workers.dask. Set flows.dask.worker: dask to use that "
                "one, or rename either"
            ),
        ),
        (
            {"flows": {"g": {**GREETINGS, "path": "flows/none"}}},
            "flows.g.path: flows/none is no directory; there would be no code to run. Name an existing one",
        ),
        (
            {"flows": {"g": {**GREETINGS, "deployments": {"d": {"entrypoint": "no.py:f"}}}}},
            (
                "flows.g.deployments.d.entrypoint: flows/greetings/no.py does not exist; every run would fail. Mend "
                "the file's name"
            ),
        ),
        (
            {"workers": {"dask": {"pool": "p"}, "other": {"pool": "p"}}},
            (
                "workers.other.pool: p is already the pool of dask; two workers with different packages would take "
                "each other's runs. Give it a pool of its own, or use replicas"
            ),
        ),
        (
            {
                "flows": {
                    "g": {
                        **GREETINGS,
                        "deployments": {
                            "d": {"entrypoint": "dask_flow.py:greetings", "schedules": [{"timezone": "UTC"}]}
                        },
                    }
                }
            },
            (
                "flows.g.deployments.d.schedules.0: a schedule has either `cron` or `interval_seconds`; it would never "
                "run. Give one of them"
            ),
        ),
    ],
    ids=lambda value: value.split(":")[0] if isinstance(value, str) else "",
)
def test_error_names_path_consequence_and_fix(values: Mapping[str, object], expected: str) -> None:
    lines = problems(values)
    assert lines[0] == "Pulumi.dev.yaml can't be used:"
    assert f"  - {expected}" in lines


def test_all_problems_are_told_at_once() -> None:
    assert len(problems({"a": 1, "b": 2, "server": {"port": 0}})) == 1 + 3


def test_secrets_need_a_server() -> None:
    off = {"orion": False, "agent": False, "cli": False}
    lines = problems({"profiles": off, "secrets": {"token": "hunter2"}})
    assert any("secrets: they are blocks in the Prefect server, and there is none" in line for line in lines)


def test_an_error_does_not_show_the_value_of_a_secret() -> None:
    assert "tooshrt" not in "\n".join(problems({"minio": {"root_password": "tooshrt"}}))


def test_a_name_too_long_for_a_host_is_refused() -> None:
    assert "host names over 63" in "\n".join(problems({}, stack="a-stack-name-that-goes-on-and-on"))


def test_requirements_beside_a_shared_worker_are_refused(tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text("")
    (tmp_path / "requirements.txt").write_text("pandas\n")
    flow = {"path": str(tmp_path), "worker": "dask", "deployments": {"d": {"entrypoint": "f.py:f"}}}
    assert any(
        "would not be installed, since workers.dask is shared" in line for line in problems({"flows": {"g": flow}})
    )


def test_a_project_that_names_no_worker_gets_one_with_its_packages(tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text("")
    (tmp_path / "requirements.txt").write_text("# ours\npandas==2.3.3  # frames\n\n")
    settings = parse(
        {"flows": {"sums": {"path": str(tmp_path), "deployments": {"d": {"entrypoint": "f.py:f"}}}}}, "dev"
    )
    worker = settings.all_workers()["sums"]
    assert (worker.pool, worker.queues, worker.requirements) == ("sums", ("default",), ("pandas==2.3.3",))


def test_requirement_lines_of_no_file() -> None:
    assert requirement_lines(Path("no/such.txt")) == ()


def test_ports_move_by_the_offset_once() -> None:
    settings = parse({"port_offset": 100}, "dev")
    assert {path: ports.start for path, ports in settings.ports().items()} == {
        "server.port": 4300,
        "minio.api_port": 9100,
        "minio.console_port": 9101,
        "dask.dashboard_port": 8887,
    }
    assert settings.port_offset == 0


def test_flow_name_is_what_prefect_makes_of_the_function() -> None:
    settings = parse(
        {"flows": {"g": {**GREETINGS, "deployments": {"d": {"entrypoint": "dask_flow.py:say_all_names"}}}}}, "dev"
    )
    assert settings.flows["g"].deployments["d"].flow_name == "say-all-names"


@pytest.mark.parametrize(
    ("reference", "major"),
    [
        ("postgres:17.10-bookworm@sha256:" + "0" * 64, "17"),
        ("host:5000/postgres:18", "18"),
        ("postgres:16-alpine", "16"),
    ],
)
def test_postgres_major_comes_from_the_tag(reference: str, major: str) -> None:
    assert parse({"images": {"postgres": reference}}, "dev").images.postgres_major == major


def stack_file(name: str) -> Mapping[str, object]:
    config = yaml.safe_load((ROOT / f"Pulumi.{name}.yaml").read_text())["config"]
    return {key.removeprefix(f"{NAMESPACE}:"): value for key, value in config.items()}


def test_the_two_shipped_stacks_differ_in_the_image_source_only() -> None:
    dev, mirror = (parse(stack_file(name), name) for name in ("dev", "dev-mirror"))
    assert dev.images.source is ImageSource.REGISTRY
    assert mirror.images.source is ImageSource.BUILD
    assert dev.model_copy(update={"images": mirror.images}) == mirror


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().port_offset = 1  # type: ignore[misc]


def test_pulumi_yaml_describes_every_setting() -> None:
    declared = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
    assert {key: entry["description"] for key, entry in declared.items()} == {
        f"{NAMESPACE}:{name}": field.description
        or (getattr(field.annotation, "__doc__", None) or "").splitlines()[0].rstrip(".")
        for name, field in Settings.model_fields.items()
    }


def test_a_misspelt_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_CONFIG", json.dumps({f"{NAMESPACE}:servr": "{}", "aws:region": "eu-west-1"}))
    with pytest.raises(SettingsError, match="servr: there is no such setting"):
        load()


def test_an_empty_key_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pulumi.Config.get_object", lambda _self, _key: {})
    assert load() == Settings()
