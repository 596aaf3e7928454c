"""What every Prefect process of the stack is told: where the API, the results and Dask are."""

from __future__ import annotations

from components.prefect_server import PORT
from settings import ServerSettings


def client_env(
    server_host: str, server: ServerSettings, result_block: str | None, dask_address: str | None
) -> dict[str, str]:
    """Environment of a worker, a Dask worker or the CLI box.

    `PREFECT_*` are Prefect's own (https://docs.prefect.io/v3/api-ref/settings-ref); flows read
    `DASK_SCHEDULER_ADDRESS` for their DaskTaskRunner.
    """
    return {
        "PREFECT_API_URL": f"http://{server_host}:{PORT}/api",
        # For the links in logs, which people click.
        "PREFECT_UI_URL": server.browser_api_url.removesuffix("/api"),
        **result_env(result_block),
        **({"DASK_SCHEDULER_ADDRESS": dask_address} if dask_address else {}),
        "DO_NOT_TRACK": "1",
    }


def result_env(result_block: str | None) -> dict[str, str]:
    """Environment that makes a block the place where persisted results go; server and clients agree on it."""
    return {"PREFECT_DEFAULT_RESULT_STORAGE_BLOCK": f"remote-file-system/{result_block}"} if result_block else {}
