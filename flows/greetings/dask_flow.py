"""The test flow: greets everybody, and says goodbye, on Dask.

It is the article's, except that

- it waits for its tasks: without that, Prefect 3 ends the flow run Completed with tasks that never ran;
- the scheduler's address is `DASK_SCHEDULER_ADDRESS`, set by the stack, and only else `scheduler:8786`;
- tasks log instead of printing, since prints of tasks that share a Dask worker can miss Prefect's logs (it swaps
  `print` for the whole process), and say which host they ran on;
- it does not load `dask-block` on import: in the stack that block is where results go by default.

DaskTaskRunner: https://docs.prefect.io/integrations/prefect-dask
"""

import os
import socket

from prefect import flow, get_run_logger, task
from prefect_dask.task_runners import DaskTaskRunner


@task
def say_hello(name: str) -> None:
    """Say hello."""
    get_run_logger().info(f"hello {name} (on {socket.gethostname()})")


@task
def say_goodbye(name: str) -> None:
    """Say goodbye."""
    get_run_logger().info(f"goodbye {name} (on {socket.gethostname()})")


@flow(
    task_runner=DaskTaskRunner(address=os.environ.get("DASK_SCHEDULER_ADDRESS", "scheduler:8786")),
)
def greetings(names: list[str]) -> None:
    """Greet everybody in `names`, and say goodbye."""
    futures = []
    for name in names:
        futures.append(say_hello.submit(name))
        futures.append(say_goodbye.submit(name))
    for future in futures:
        future.result()


if __name__ == "__main__":
    greetings(["Wojciech", "Dawid", "Michał", "Adam", "Rafał"])
