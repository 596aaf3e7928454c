"""Metrics: what is declared for them, whom Prometheus asks and how, and what Grafana finds."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from components.caddyfile import Routes, sites
from components.grafana import DASHBOARD, SOURCE, provisioning
from components.metrics import minio_token
from policy.rules import MANDATORY, Resource
from settings import ProxySettings, SettingsError, parse
from tests.unit.recorder import Recorded, is_secret, plain, record, revealed

pytestmark = pytest.mark.usefixtures("_project")

METRICS = {"metrics": {"mode": "managed"}}
BUILD: Mapping[str, Any] = {"images": {"source": "build"}, **METRICS}
GRAFANA = {"metrics": {"mode": "managed", "grafana": True}}
HASH = "$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$aGFzaGhhc2g"
MANAGED = {"mode": "managed", "domain": "example.com", "address": "127.0.0.1"}


def declared(**settings: Any) -> dict[str, Recorded]:
    resources = record({**BUILD, **settings}, secret=("auth", "minio", "postgres"))
    return {r.name: r for r in resources if not r.type.startswith("prefect-environment:")}


def uploads(container: Recorded) -> dict[str, str]:
    return {each["file"]: each["content"] for each in revealed(container.inputs)["uploads"]}


def jobs(stack: Mapping[str, Recorded]) -> dict[str, dict[str, Any]]:
    told = json.loads(uploads(stack["prometheus"])["/etc/prometheus/prometheus.yml"])
    return {each["job_name"]: each for each in told["scrape_configs"]}


def targets(stack: Mapping[str, Recorded]) -> dict[str, str]:
    """Name to address."""
    configs = [config for job in jobs(stack).values() for config in job["static_configs"]]
    return {config["labels"]["instance"]: config["targets"][0] for config in configs}


def networks(container: Recorded) -> set[str]:
    return {n["name"].removeprefix("prefect-environment-test-") for n in container.inputs["networksAdvanced"]}


def env(container: Recorded) -> dict[str, str]:
    return dict(line.split("=", 1) for line in revealed(container.inputs)["envs"])


@pytest.fixture(scope="module", name="stack")
def _stack(request: pytest.FixtureRequest) -> dict[str, Recorded]:
    request.getfixturevalue("_module_project")
    return declared(proxy=MANAGED)


def test_nobody_is_watched_by_default() -> None:
    """Who takes this version without the setting has the containers that there were."""
    stack = declared(metrics={}, proxy=MANAGED)
    assert not {name for name in stack if re.search("metrics|prometheus|exporter|grafana|observer", name)}
    assert "PREFECT_SERVER_METRICS_ENABLED" not in env(stack["prefect-server"])
    assert "metrics" not in uploads(stack["caddy"])["/etc/caddy/Caddyfile"]


def test_who_is_asked(stack: Mapping[str, Recorded]) -> None:
    assert targets(stack) == {
        "prometheus": "localhost:9090",
        "prefect-server": "prefect-server:4200",
        "prefect-exporter": "prefect-exporter:9100",
        "postgres-exporter": "postgres-exporter:9187",
        "minio": "minio:9000",
        "dask-scheduler": "scheduler:8787",
        "dask-worker-1": "prefect-environment-test-dask-worker-1:8788",
        "dask-worker-2": "prefect-environment-test-dask-worker-2:8788",
    }
    assert set(targets(stack)) <= {"prometheus", *stack}
    assert env(stack["prefect-server"])["PREFECT_SERVER_METRICS_ENABLED"] == "true"
    assert networks(stack["prometheus"]) == {
        "metrics-network", "prefect-network", "minio-network", "dask-network", "caddy-network"
    }  # fmt: skip
    assert networks(stack["prefect-exporter"]) == {"metrics-network", "prefect-network"}
    assert networks(stack["postgres-exporter"]) == {"metrics-network", "database-network"}


def test_only_prometheus_is_published_and_on_loopback_alone(stack: Mapping[str, Recorded]) -> None:
    assert stack["prometheus"].inputs["ports"] == [{"internal": 9090, "external": 9090, "ip": "127.0.0.1"}]
    assert not [name for name in ("prefect-exporter", "postgres-exporter") if stack[name].inputs.get("ports")]


def test_credentials_are_in_files_that_are_secret(stack: Mapping[str, Recorded]) -> None:
    ours = {name: stack[name] for name in ("prometheus", "prefect-exporter", "postgres-exporter")}
    named = [job["basic_auth"]["password_file"] for job in jobs(stack).values() if "basic_auth" in job]
    named += [job["authorization"]["credentials_file"] for job in jobs(stack).values() if "authorization" in job]
    named += [env(stack["postgres-exporter"])["DATA_SOURCE_PASS_FILE"], "/root/prefect-exporter"]
    secret = {e["file"] for each in ours.values() for e in each.inputs["uploads"] if is_secret(e["content"])}
    assert secret == set(named)
    assert all(path.startswith("/root/") for path in secret)
    for each in ours.values():
        assert "generated-" not in json.dumps(plain(each.inputs))


def test_who_sees_what_goes_on_reads_no_data(stack: Mapping[str, Recorded]) -> None:
    role = stack["postgres-observer"].inputs
    assert (role["role"], role["member_of"], role.get("database")) == ("observer", "pg_monitor", None)
    assert env(stack["postgres-exporter"])["DATA_SOURCE_USER"] == "observer"
    assert stack["metrics-only"].inputs["document"]["Statement"] == [
        {"Effect": "Allow", "Action": ["admin:Prometheus"], "Resource": ["arn:aws:s3:::*"]}
    ]
    assert stack["metrics-user"].inputs["user"] == stack["metrics-only-metrics"].inputs["user"] == "metrics"


def test_the_token_of_minio_is_the_users(stack: Mapping[str, Recorded]) -> None:
    token = uploads(stack["prometheus"])["/root/prometheus-minio-token"]
    secret = revealed(stack["metrics-user"].inputs)["secret_key"]
    assert token == minio_token("metrics", secret)
    signed, _, signature = token.rpartition(".")
    expected = hmac.digest(secret.encode(), signed.encode(), hashlib.sha512)
    assert base64.urlsafe_b64decode(signature + "==") == expected
    claims = json.loads(base64.urlsafe_b64decode(signed.partition(".")[2] + "=="))
    assert claims == {"exp": 4102444800, "sub": "metrics", "iss": "prometheus"}


def test_settings_reach_the_container() -> None:
    stack = declared(metrics={"mode": "managed", "port": 9999, "retention_days": 7, "memory_mb": 1000})
    prometheus = stack["prometheus"].inputs
    assert "--storage.tsdb.retention.time=7d" in prometheus["command"]
    assert prometheus["ports"][0]["external"] == 9999
    assert prometheus["memory"] == 1000
    assert env(stack["prometheus"])["GOMEMLIMIT"] == "900MiB"
    assert stack["prometheus-data"].protect
    assert stack["prometheus-data"].retain_on_delete


def test_servers_elsewhere_are_not_asked() -> None:
    key = {"access_key": "their-key", "secret_key": "their-secret"}
    stack = declared(
        postgres={"mode": "external", "external": {"host": "db.example.com", "password": "their-password"}},
        minio={"mode": "external", "external": {"endpoint": "https://s3.example.com", **key}},
        profiles={"dask": False},
        dask={"address": "tcp://dask.example.com:8786"},
    )
    assert set(targets(stack)) == {"prometheus", "prefect-server", "prefect-exporter"}


def test_every_rule_of_the_pack_is_kept(stack: Mapping[str, Recorded]) -> None:
    both = [*stack.values(), *declared(**GRAFANA, images={"source": "registry"}).values()]
    resources = [Resource(r.type, r.name, revealed(r.inputs), r.protect) for r in both]
    assert [problem for rule in MANDATORY.values() for r in resources for problem in rule(r)] == []


def test_the_door_leads_to_them_after_the_log_in() -> None:
    ann = {"email": "ann@example.com", "password_hash": HASH, "groups": ["ops"]}
    users = {"ann": ann}
    auth = {"mode": "managed", "users": users, "access": {"metrics": {"groups": ["ops"]}}}
    stack = declared(**GRAFANA, images={"source": "registry"}, proxy=MANAGED, auth=auth)
    rules = json.loads(uploads(stack["authelia"])["/config/configuration.yml"])["access_control"]["rules"]
    assert [(rule["domain"], rule.get("subject")) for rule in rules] == [
        ("tasks.example.com", None),
        ("storage-console.example.com", None),
        ("metrics.example.com", ["group:ops"]),
        ("dashboards.example.com", ["group:ops"]),
    ]
    for host, address in (("metrics", "prometheus:9090"), ("dashboards", "grafana:3000")):
        text = uploads(stack["caddy"])["/etc/caddy/Caddyfile"]
        site = text.partition(f"https://{host}.example.com {{")[2].partition("\n}")[0]
        assert site.index("forward_auth") < site.index(f"reverse_proxy {address}")


def test_a_host_is_served_where_there_is_something_behind_it() -> None:
    proxy = ProxySettings.model_validate({**MANAGED, "metrics": "watch"})
    served = sites(Routes(proxy, None, None, "", None, None, metrics="prometheus:9090"))
    assert list(served) == ["https://watch.example.com"]


def test_grafana_finds_its_source_and_its_dashboard() -> None:
    stack = declared(**GRAFANA, images={"source": "registry"}, proxy=MANAGED)
    container, files = stack["grafana"], uploads(stack["grafana"])
    [source] = json.loads(files["/etc/grafana/provisioning/datasources/stack.yaml"])["datasources"]
    assert (source["type"], source["url"], source["uid"]) == ("prometheus", "http://prometheus:9090", SOURCE)
    [provider] = json.loads(files["/etc/grafana/provisioning/dashboards/stack.yaml"])["providers"]
    assert f"{provider['options']['path']}/dashboard.json" in files
    told = env(container)
    assert told["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] in files
    assert told["GF_SECURITY_ADMIN_PASSWORD__FILE"] in files
    assert told["GF_AUTH_ANONYMOUS_ENABLED"] == "false"
    assert told["GF_SERVER_ROOT_URL"] == "https://dashboards.example.com"
    assert container.inputs["ports"] == [{"internal": 3000, "external": 3000, "ip": "127.0.0.1"}]
    assert networks(container) == {"metrics-network", "caddy-network"}


def test_the_dashboard_is_one_that_grafana_can_draw() -> None:
    text = provisioning("http://prometheus:9090")["/etc/grafana/dashboards/dashboard.json"]
    assert text == DASHBOARD.read_text()
    dashboard = json.loads(text)
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["type"] in {"timeseries", "stat"}
        assert panel["datasource"] == {"type": "prometheus", "uid": SOURCE}
        assert all(target["expr"] and target["legendFormat"] for target in panel["targets"])
        place = panel["gridPos"]
        columns, rows = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        cells = {(x, y) for x in columns for y in rows}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"metrics": {"grafana": True}}, r"metrics\.grafana: with mode none there would be nothing to draw"),
        ({"images": {"source": "build"}, **GRAFANA}, r"metrics\.grafana: there is none among Debian's packages"),
        (
            {**METRICS, "profiles": dict.fromkeys(("orion", "agent", "cli", "dask", "minio"), False)},
            r"metrics\.mode: neither Prefect, MinIO nor Dask is part of the stack",
        ),
        ({**METRICS, "server": {"port": 9090}}, r"port 9090 is also"),
        ({**METRICS, "proxy": {**MANAGED, "tasks": "metrics"}}, r"proxy\.metrics: 'metrics' is another host's name"),
        (
            {**GRAFANA, "proxy": {**MANAGED, "dashboards": "metrics"}},
            r"proxy\.dashboards: 'metrics' is another host's name",
        ),
        ({"metrics": {"mode": "managed", "retention_days": 0}}, r"metrics\.retention_days"),
    ],
)
def test_what_can_not_work_is_refused(settings: Mapping[str, Any], expected: str) -> None:
    with pytest.raises(SettingsError, match=expected):
        parse(settings, "dev")


def test_names_that_were_good_before_stay_so() -> None:
    assert parse({"proxy": {**MANAGED, "tasks": "metrics", "storage": "dashboards"}}, "dev").proxy.tasks == "metrics"
    named = {"source": "build", "grafana": "registry.example.com/grafana:12.3.1"}
    assert parse({"images": named, **GRAFANA}, "dev").metrics.grafana
