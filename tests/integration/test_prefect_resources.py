"""Every Prefect resource through its whole life, against a real server."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import providers.prefect.deployment
from providers.base import ProviderError, Value
from providers.prefect.automation import AutomationProvider
from providers.prefect.block import BlockProvider
from providers.prefect.deployment import DeploymentProvider, parameter_schema
from providers.prefect.server import marked, unmarked
from providers.prefect.work_pool import WorkPoolProvider
from providers.prefect.work_queue import WorkQueueProvider
from tests.integration.harness import OWNER, Case, Engine, Lifecycle, Props, failing, fresh_process
from tests.integration.ports import free_port
from tests.integration.prefect_server import AUTH, RunningPrefect

__all__ = ["fresh_process"]

FLOW = '''
import os

from module_that_is_not_here import nothing
from prefect import flow

remembered = os.environ.get("PREFECT_API_URL")


@flow
def greet(names: list[str], times: int = 1):
    """Greet.

    Args:
        names: whom
    """
'''


LOAD = """
import json, sys
from prefect.blocks.system import Secret
print(json.dumps(Secret.load(sys.argv[1]).get()))
"""


def unique(prefix: str) -> str:
    return f"{prefix}-{secrets.token_hex(4)}"


def new_pool(prefect: RunningPrefect) -> str:
    name = unique("pool")
    prefect.send("POST", "/work_pools/", {"name": name, "type": "process"})
    return name


def work_pool(prefect: RunningPrefect, _tmp: Path) -> Case:
    name = unique("pool")
    template = {
        "job_configuration": {"command": "{{ command }}", "working_dir": "{{ working_dir }}"},
        "variables": {
            "type": "object",
            "properties": {"command": {"type": "string"}, "working_dir": {"type": "string", "default": "/"}},
        },
    }

    theirs = {"name": name, "type": "process", "description": marked(None, "an/other")}

    def holds(inputs: Props) -> bool:
        pool = prefect[f"/work_pools/{inputs['pool']}"]
        return (
            pool["type"] == inputs["pool_type"]
            and unmarked(pool["description"]) == (inputs.get("description"), OWNER)
            and pool["concurrency_limit"] == inputs.get("concurrency_limit")
            and pool["base_job_template"] == inputs.get("base_job_template", pool["base_job_template"])
        )

    return Case(
        provider=WorkPoolProvider(),
        inputs={"connection": prefect.connection, "pool": name, "pool_type": "process"},
        update={"description": "for\n\nall", "concurrency_limit": 3, "base_job_template": template},
        replace={"pool": unique("pool")},
        holds=holds,
        exists=lambda inputs: prefect.get(f"/work_pools/{inputs['pool']}") is not None,
        drift=lambda: prefect.send("PATCH", f"/work_pools/{name}", {"concurrency_limit": 1}),
        vanish=lambda: prefect.send("DELETE", f"/work_pools/{name}"),
        foreign=lambda: prefect.send("POST", "/work_pools/", theirs),
        invalid=[("pool", "a/b"), ("pool", "a%b"), ("pool", " ")],
    )


def work_queue(prefect: RunningPrefect, _tmp: Path) -> Case:
    pool, name = new_pool(prefect), unique("queue")

    def path(inputs: Props) -> str:
        return f"/work_pools/{inputs['pool']}/queues/{inputs['queue']}"

    def holds(inputs: Props) -> bool:
        queue = prefect[path(inputs)]
        return (
            unmarked(queue["description"]) == (inputs.get("description"), OWNER)
            and queue["concurrency_limit"] == inputs.get("concurrency_limit")
            and queue["priority"] == inputs.get("priority", queue["priority"])
        )

    mine = f"/work_pools/{pool}/queues/{name}"
    theirs = {"name": name, "concurrency_limit": 5, "description": "somebody's"}
    return Case(
        provider=WorkQueueProvider(),
        inputs={"connection": prefect.connection, "pool": pool, "queue": name},
        update={"priority": 1, "concurrency_limit": 2, "description": "first"},
        replace={"queue": unique("queue")},
        holds=holds,
        exists=lambda inputs: prefect.get(path(inputs)) is not None,
        drift=lambda: prefect.send("PATCH", mine, {"concurrency_limit": 7}),
        vanish=lambda: prefect.send("DELETE", mine),
        foreign=lambda: prefect.send("POST", f"/work_pools/{pool}/queues", theirs),
        invalid=[("queue", "a/b"), ("queue", ""), ("priority", 0), ("pool", "a/b")],
    )


def block(prefect: RunningPrefect, _tmp: Path) -> Case:
    name, secret, newer = unique("block"), secrets.token_hex(12), secrets.token_hex(12)

    def data(key: str, endpoint: str) -> Props:
        client = {"endpoint_url": endpoint}
        return {"basepath": "s3://flows", "settings": {"key": "user", "secret": key, "client_kwargs": client}}

    def path(inputs: Props) -> str:
        return f"/block_types/slug/{inputs['block_type']}/block_documents/name/{inputs['block']}"

    def document(inputs: Props) -> Props | None:
        return prefect.get(f"{path(inputs)}?include_secrets=true")

    first = {"connection": prefect.connection, "block_type": "remote-file-system", "block": name}
    first["data"] = data(secret, "http://minio:9000")

    def id_() -> str:
        return str(prefect[path(first)]["id"])

    def foreign() -> None:
        case = BlockProvider()
        case.create(first | {"owner": OWNER, "adopt": False, "data": data("somebody's", "http://other:9000")})

    return Case(
        provider=BlockProvider(),
        inputs=first,
        # Without the settings: what is not asked for goes.
        update={"data": {"basepath": f"s3://{newer}"}},
        replace={"block": unique("block")},
        holds=lambda inputs: (document(inputs) or {}).get("data") == inputs["data"],
        exists=lambda inputs: document(inputs) is not None,
        drift=lambda: prefect.send(
            "PATCH",
            f"/block_documents/{id_()}",
            {"data": data("stolen", "http://minio:9000"), "merge_existing_data": False},
        ),
        vanish=lambda: prefect.send("DELETE", f"/block_documents/{id_()}"),
        foreign=foreign,
        invalid=[("block", "Has_Capitals"), ("block", ""), ("block_type", "Remote File System")],
        secrets=(secret, newer),
    )


def deployment(prefect: RunningPrefect, tmp: Path) -> Case:
    flow, name, pool = unique("flow"), unique("deployment"), new_pool(prefect)
    (tmp / "greet.py").write_text(FLOW)
    (tmp / "greet_v2.py").write_text(FLOW.replace("times: int", "often: int"))
    hourly: Props = {"cron": "0 * * * *", "timezone": "Europe/Warsaw"}
    often: Props = {"interval_seconds": 90, "timezone": "UTC", "active": False}

    def path(inputs: Props) -> str:
        return f"/deployments/name/{inputs['flow']}/{inputs['deployment']}"

    def pull(directory: str) -> list[Props]:
        return [{"prefect.deployments.steps.set_working_directory": {"directory": directory}}]

    def times(schedules: list[Props]) -> set[object]:
        return {each.get("cron") or each.get("interval") or each["interval_seconds"] for each in schedules}

    def holds(inputs: Props) -> bool:
        live = prefect[path(inputs)]
        limit = live["global_concurrency_limit"]
        same = all(live[key] == inputs[key] for key in ("entrypoint", "pull_steps", "parameters", "tags"))
        properties = parameter_schema(inputs["source"], inputs["entrypoint"])["properties"]
        return (
            same
            and (live["work_pool_name"], live["work_queue_name"]) == (inputs["pool"], inputs["queue"])
            and live["version"] == inputs["content_hash"]
            and unmarked(live["description"]) == (inputs.get("description"), OWNER)
            and (limit and limit["limit"]) == inputs.get("concurrency_limit")
            and live["parameter_openapi_schema"]["properties"] == properties
            and times([each["schedule"] for each in live["schedules"]]) == times(inputs["schedules"])
        )

    mine = f"/deployments/name/{flow}/{name}"

    def drift() -> None:
        live = prefect[mine]
        prefect.send("PATCH", f"/deployments/{live['id']}", {"parameters": {"names": []}, "tags": ["theirs"]})
        prefect.send("POST", f"/deployments/{live['id']}/schedules", [{"schedule": {"cron": "1 1 1 1 1"}}])

    def foreign() -> None:
        flow_id = prefect.send("POST", "/flows/", {"name": flow})["id"]
        prefect.send("POST", "/deployments/", {"name": name, "flow_id": flow_id, "work_pool_name": pool})

    return Case(
        provider=DeploymentProvider(),
        inputs={
            "connection": prefect.connection,
            "flow": flow,
            "deployment": name,
            "entrypoint": "greet.py:greet",
            "pull_steps": pull("/a"),
            "pool": pool,
            "queue": "default",
            "parameters": {"names": ["Michał", "Rafał"], "times": 2},
            "schedules": [hourly, often],
            "tags": ["b", "a"],
            "source": str(tmp),
            "content_hash": "1",
        },
        update={
            "entrypoint": "greet_v2.py:greet",
            "pull_steps": [
                *pull("/b"),
                {"some.step.of_a_package": {"requires": "x", "nested": {"a": [1, "b"]}}},
            ],
            "queue": "another",
            "parameters": {"names": []},
            "schedules": [often, {"cron": "5 * * * *"}],
            "tags": [],
            "description": "Says hello",
            "content_hash": "2",
            "concurrency_limit": 4,
        },
        replace={"deployment": unique("deployment")},
        holds=holds,
        exists=lambda inputs: prefect.get(path(inputs)) is not None,
        drift=drift,
        vanish=lambda: prefect.send("DELETE", f"/deployments/{prefect[mine]['id']}"),
        foreign=foreign,
        invalid=[
            ("flow", "a/b"),
            ("deployment", "50%"),
            ("entrypoint", "greet"),
            ("schedules", [{"cron": "* * * * *", "interval_seconds": 5}]),
            ("schedules", [{"timezone": "UTC"}]),
            ("schedules", [{"cron": "often"}]),
            ("schedules", [{"cron": "* * * * *", "timezone": "Mars/Base"}]),
            ("schedules", [{"interval_seconds": 0}]),
            ("schedules", [{"interval_seconds": 5, "timezon": "UTC"}]),
            ("schedules", [{"interval_seconds": 5}, {"interval_seconds": 5, "active": False}]),
        ],
    )


def automations(prefect: RunningPrefect, name: str) -> list[Props]:
    found: list[Props] = prefect.api.post(
        "/automations/filter", json={"automations": {"name": {"any_": [name]}}}
    ).json()  # fmt: skip
    return found


def automation(prefect: RunningPrefect, _tmp: Path) -> Case:
    name = unique("automation")
    trigger: Props = {
        "type": "event",
        "posture": "Proactive",
        "after": ["prefect.flow-run.heartbeat"],
        "expect": ["prefect.flow-run.heartbeat", "prefect.flow-run.Completed", "prefect.flow-run.Crashed"],
        "match": {"prefect.resource.id": "prefect.flow-run.*"},
        "match_related": {"prefect.resource.role": "work-pool", "prefect.resource.name": ["a", "b"]},
        "for_each": ["prefect.resource.id"],
        "within": 150,
    }
    crash: Props = {"type": "change-flow-run-state", "state": "CRASHED", "message": "no heartbeat"}
    stop: Props = {"type": "cancel-flow-run"}

    def theirs(name: str) -> Props:
        return {"name": name, "description": "somebody's", "trigger": trigger, "actions": [{"type": "do-nothing"}]}

    def mine(name: str = name) -> list[Props]:
        return [each for each in automations(prefect, name) if unmarked(each["description"])[1] == OWNER]

    def holds(inputs: Props) -> bool:
        [live] = mine(inputs["automation"])
        given = inputs["trigger"]
        return (
            live["description"] == marked(inputs.get("description"), OWNER)
            and live["trigger"]["within"] == given["within"]
            and all(set(live["trigger"][key]) == set(given.get(key, ())) for key in ("after", "expect", "for_each"))
            and all(
                [action["type"] for action in live[key]] == [action["type"] for action in inputs.get(key, [])]
                for key in ("actions", "actions_on_trigger", "actions_on_resolve")
            )
        )

    def drift() -> None:
        [live] = mine()
        changed = {key: live[key] for key in ("name", "description", "enabled", "trigger")}
        prefect.send("PUT", f"/automations/{live['id']}", changed | {"actions": [{"type": "do-nothing"}]})

    return Case(
        provider=AutomationProvider(),
        inputs={
            "connection": prefect.connection,
            "automation": name,
            "trigger": trigger,
            "actions": [crash],
            "actions_on_trigger": [],
            "actions_on_resolve": [],
        },
        update={
            "description": "for\n\nall",
            "trigger": trigger | {"within": 30.5, "expect": ["prefect.flow-run.*"]},
            "actions": [stop, crash],
            "actions_on_trigger": [stop],
            "actions_on_resolve": [stop],
        },
        replace={"automation": unique("automation")},
        holds=lambda inputs: bool(mine(inputs["automation"])) and holds(inputs),
        exists=lambda inputs: bool(automations(prefect, inputs["automation"])),
        drift=drift,
        vanish=lambda: prefect.send("DELETE", f"/automations/{mine()[0]['id']}"),
        foreign=lambda: prefect.send("POST", "/automations/", theirs(name)),
        invalid=[
            ("automation", ""),
            ("automation", " a"),
            ("trigger", {"type": "metric"}),
            ("actions", []),
            ("actions", [{"state": "CRASHED"}]),
            ("actions_on_resolve", [{}]),
        ],
    )


def in_a_flow(prefect: RunningPrefect, code: str, *words: str) -> str:
    """What Python prints that has the environment of a flow."""
    environment = {
        "PATH": os.environ["PATH"],
        "PREFECT_API_URL": prefect.connection["url"],
        "PREFECT_API_AUTH_STRING": AUTH,
        "DO_NOT_TRACK": "1",
    }
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout


READ = providers.prefect.deployment._read
KNOWN: dict[tuple[str, str, str], Value] = {}


@pytest.fixture(autouse=True)
def _each_text_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefect takes seconds to read an entrypoint: what it has told of a file's text, it need not tell each test."""

    def read(source: str, entrypoint: str, what: str, script: str) -> Value:
        file = Path(source, entrypoint.partition(":")[0])
        key = file.read_text() if file.exists() else source, entrypoint, script
        if key not in KNOWN:
            KNOWN[key] = READ(source, entrypoint, what, script)
        return KNOWN[key]

    monkeypatch.setattr(providers.prefect.deployment, "_read", read)


@pytest.fixture(params=[work_pool, work_queue, block, deployment, automation], ids=lambda make: make.__name__)
def case(request: pytest.FixtureRequest, prefect_server: RunningPrefect, tmp_path: Path) -> Case:
    make: Callable[[RunningPrefect, Path], Case] = request.param
    return make(prefect_server, tmp_path)


class TestLifecycle(Lifecycle):
    """The life of every resource in Prefect."""


class TestSession:
    """How the server is reached."""

    def test_the_users_own_prefect_has_no_say(
        self, prefect_server: RunningPrefect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
        monkeypatch.setenv("PREFECT_API_KEY", "theirs")
        case = work_pool(prefect_server, tmp_path)
        assert case.engine().up(case.program()) == "create"
        assert case.holds(case.program())


class TestWorkPool:
    def test_the_template_of_the_type_is_left_alone(self, prefect_server: RunningPrefect, tmp_path: Path) -> None:
        case = work_pool(prefect_server, tmp_path)
        engine, program = case.engine(), case.program()
        engine.up(program)
        name = program["pool"]
        template = {"job_configuration": {"command": "x"}, "variables": {"type": "object", "properties": {}}}
        prefect_server.send("PATCH", f"/work_pools/{name}", {"base_job_template": template, "is_paused": True})
        assert engine.refresh() == "same"
        assert engine.up(program | {"concurrency_limit": 2}) == "update"
        pool = prefect_server[f"/work_pools/{name}"]
        assert pool["base_job_template"] == template
        assert pool["is_paused"]

    def test_another_type_can_not_be_adopted(self, prefect_server: RunningPrefect, tmp_path: Path) -> None:
        case = work_pool(prefect_server, tmp_path)
        program = case.program(adopt=True)
        prefect_server.send("POST", "/work_pools/", {"name": program["pool"], "type": "docker"})
        assert "'docker'" in failing(lambda: case.engine().up(program))


class TestWorkQueue:
    def test_one_that_a_deployment_made_is_taken_over(self, prefect_server: RunningPrefect, tmp_path: Path) -> None:
        case = work_queue(prefect_server, tmp_path)
        program = case.program()
        flow = prefect_server.send("POST", "/flows/", {"name": unique("flow")})["id"]
        where = {"work_pool_name": program["pool"], "work_queue_name": program["queue"]}
        prefect_server.send("POST", "/deployments/", {"name": "theirs", "flow_id": flow} | where)
        assert case.exists(program)
        engine = case.engine()
        assert engine.up(program) == "create"
        assert engine.up(program) == "same"


class TestBlock:
    def test_the_id_stays(self, prefect_server: RunningPrefect, tmp_path: Path) -> None:
        case = block(prefect_server, tmp_path)
        engine, program = case.engine(), case.program()
        path = f"/block_types/slug/remote-file-system/block_documents/name/{program['block']}"
        engine.up(program)
        before = prefect_server[path]["id"]
        assert engine.state is not None
        assert engine.state.outputs["block_id"] == before
        engine.up(program | case.update)
        assert prefect_server[path]["id"] == before
        assert engine.state.outputs["block_id"] == before
        again = case.engine()
        assert again.up(program | case.update) == "create"
        assert again.state is not None
        assert again.state.outputs["block_id"] == before

    def test_an_unknown_type_names_the_fix(self, prefect_server: RunningPrefect, tmp_path: Path) -> None:
        case = block(prefect_server, tmp_path)
        text = failing(lambda: case.engine().up(case.program(block_type="no-such-type")), *case.secrets)
        assert "'no-such-type'" in text
        assert "prefect block register" in text

    def test_a_refusal_holds_no_secret(self, prefect_server: RunningPrefect, tmp_path: Path) -> None:
        """The server's answer repeats what it was sent."""
        case = block(prefect_server, tmp_path)
        secret = secrets.token_hex(12)
        program = case.program(data={"settings": {"$ref": secret}, "$ref": {"block_document_id": secret}})
        failing(lambda: case.engine().up(program), secret)

    @pytest.mark.parametrize(
        ("value", "loaded"), [("hunter2-hunter2", "hunter2-hunter2"), ('{"user": "ann"}', {"user": "ann"})]
    )
    def test_a_flow_loads_a_secret(self, prefect_server: RunningPrefect, value: str, loaded: object) -> None:
        name = unique("secret")
        program = {"connection": prefect_server.connection, "owner": OWNER, "block_type": "secret", "block": name}
        engine = Engine(BlockProvider())
        assert engine.up({**program, "adopt": True, "data": {"value": value}}) == "create"
        assert engine.refresh() == "same"
        assert json.loads(in_a_flow(prefect_server, LOAD, name)) == loaded


class TestAutomation:
    def test_a_paused_one_stays_paused(self, prefect_server: RunningPrefect, tmp_path: Path) -> None:
        case = automation(prefect_server, tmp_path)
        engine, program = case.engine(), case.program()
        engine.up(program)
        [live] = automations(prefect_server, program["automation"])
        assert live["enabled"]
        prefect_server.send("PATCH", f"/automations/{live['id']}", {"enabled": False})
        assert engine.refresh() == "same"
        assert engine.up(program | case.update) == "update"
        [after] = automations(prefect_server, program["automation"])
        assert (after["id"], after["enabled"]) == (live["id"], False)

    def test_another_one_of_its_name_is_left_alone(self, prefect_server: RunningPrefect, tmp_path: Path) -> None:
        case = automation(prefect_server, tmp_path)
        engine, program = case.engine(), case.program()
        engine.up(program)
        assert case.foreign is not None
        case.foreign()
        assert engine.refresh() == "same"
        assert engine.up(program | case.update) == "update"
        assert case.holds(program | case.update)
        engine.destroy()
        [theirs] = automations(prefect_server, program["automation"])
        assert theirs["description"] == "somebody's"

    def test_what_the_server_does_not_take_is_named(self, prefect_server: RunningPrefect, tmp_path: Path) -> None:
        case = automation(prefect_server, tmp_path)
        text = failing(lambda: case.engine().up(case.program(actions=[{"type": "no-such-action"}])))
        assert "no-such-action" in text


def deployed(prefect: RunningPrefect, tmp: Path) -> tuple[Engine, Props, str]:
    """A deployment that is there: its engine, what the program says of it, and its id."""
    case = deployment(prefect, tmp)
    engine, program = case.engine(), case.program()
    engine.up(program)
    assert engine.state is not None
    return engine, program, engine.state.outputs["deployment_id"]


class TestDeployment:
    def test_the_id_stays_and_a_paused_schedule_stays_paused(
        self, prefect_server: RunningPrefect, tmp_path: Path
    ) -> None:
        engine, program, id_ = deployed(prefect_server, tmp_path)
        live = prefect_server[f"/deployments/{id_}"]
        hourly = next(each for each in live["schedules"] if "cron" in each["schedule"])
        prefect_server.send("PATCH", f"/deployments/{id_}/schedules/{hourly['id']}", {"active": False})
        assert engine.refresh() == "same"
        new = program | {"content_hash": "2", "schedules": [{"interval_seconds": 7}, program["schedules"][0]]}
        assert engine.up(new) == "update"
        assert engine.state is not None
        assert engine.state.outputs["deployment_id"] == id_
        after = prefect_server[f"/deployments/{id_}"]["schedules"]
        assert {each["schedule"].get("cron"): each["active"] for each in after} == {
            "0 * * * *": False,
            None: True,
        }
        assert engine.refresh() == "same"
        on = [{"interval_seconds": 7}, program["schedules"][0] | {"active": True}]
        assert engine.up(new | {"schedules": on}) == "update"
        assert all(each["active"] for each in prefect_server[f"/deployments/{id_}"]["schedules"])

    def test_an_explicit_state_drifts(self, prefect_server: RunningPrefect, tmp_path: Path) -> None:
        engine, program, id_ = deployed(prefect_server, tmp_path)
        live = prefect_server[f"/deployments/{id_}"]
        often = next(each for each in live["schedules"] if "interval" in each["schedule"])
        prefect_server.send("PATCH", f"/deployments/{id_}/schedules/{often['id']}", {"active": True})
        assert engine.refresh() == "changed"
        assert engine.up(program) == "update"
        again = prefect_server[f"/deployments/{id_}"]["schedules"]
        assert [s["active"] for s in again if "interval" in s["schedule"]] == [False]

    def test_a_paused_one_stays_paused_unless_a_schedule_must_be_on(
        self, prefect_server: RunningPrefect, tmp_path: Path
    ) -> None:
        engine, program, id_ = deployed(prefect_server, tmp_path)
        path = f"/deployments/{id_}"
        # What the switch beside a deployment's name sends.
        prefect_server.send("POST", f"{path}/pause_deployment")
        assert engine.refresh() == "same"
        assert engine.up(program | {"content_hash": "2"}) == "update"
        assert prefect_server[path]["paused"]
        on = program | {"content_hash": "2", "schedules": [program["schedules"][0] | {"active": True}]}
        assert engine.up(on) == "update"
        assert not prefect_server[path]["paused"]
        prefect_server.send("POST", f"{path}/pause_deployment")
        assert engine.refresh() == "changed"
        assert engine.up(on) == "update"
        assert not prefect_server[path]["paused"]
        assert engine.refresh() == "same"

    def test_another_directory_of_the_same_code_calls_nobody(
        self, prefect_server: RunningPrefect, tmp_path: Path
    ) -> None:
        case = deployment(prefect_server, tmp_path)
        engine, program = case.engine(), case.program()
        engine.up(program)
        moved = program | {"source": "/elsewhere", "connection": case.unreachable}
        assert engine.up(moved) == "update"
        assert engine.up(moved) == "same"

    def test_it_comes_back_to_a_pool_that_was_deleted(self, prefect_server: RunningPrefect, tmp_path: Path) -> None:
        case = deployment(prefect_server, tmp_path)
        engine, program = case.engine(), case.program()
        engine.up(program)
        prefect_server.send("DELETE", f"/work_pools/{program['pool']}")
        prefect_server.send("POST", "/work_pools/", {"name": program["pool"], "type": "process"})
        assert not case.holds(program)
        assert engine.refresh() == "changed"
        assert engine.up(program) == "update"
        assert case.holds(program)

    def test_a_pool_that_is_not_there_is_named(self, prefect_server: RunningPrefect, tmp_path: Path) -> None:
        case = deployment(prefect_server, tmp_path)
        assert "no-such-pool" in failing(lambda: case.engine().up(case.program(pool="no-such-pool")))

    def test_a_function_that_is_not_there_is_named(self, prefect_server: RunningPrefect, tmp_path: Path) -> None:
        case = deployment(prefect_server, tmp_path)
        assert "nobody" in failing(lambda: case.engine().up(case.program(entrypoint="greet.py:nobody")))


def test_the_schema_is_read_without_the_users_prefect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    (tmp_path / "greet.py").write_text(FLOW + "\nseen = print('noise', remembered)\nbroken = remembered.lower()\n")
    schema = parameter_schema(str(tmp_path), "greet.py:greet")
    assert list(schema["properties"]) == ["names", "times"]
    assert schema["required"] == ["names"]
    with pytest.raises(ProviderError, match=r"absent\.py"):
        parameter_schema(str(tmp_path), "absent.py:greet")


@pytest.mark.parametrize("description", [None, "one line", "two\n\nparagraphs"])
def test_the_mark_comes_off_again(description: str | None) -> None:
    assert unmarked(marked(description, OWNER)) == (description, OWNER)
    assert unmarked(description) == (description, None)
