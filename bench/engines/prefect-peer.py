"""Prefect runs the graph: a flow whose tasks are submitted to threads, with a server that keeps their states."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

home = tempfile.mkdtemp()
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
api = f"http://127.0.0.1:{port}/api"
os.environ.update(
    PREFECT_HOME=home,
    PREFECT_API_URL=api,
    PREFECT_LOGGING_LEVEL="ERROR",
    PREFECT_RESULTS_PERSIST_BY_DEFAULT="true",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    PREFECT_SERVER_UI_ENABLED="false",
    DO_NOT_TRACK="1",
)

from peer import graph, serve  # noqa: E402
from prefect import flow, task  # noqa: E402
from prefect.futures import wait  # noqa: E402
from prefect.runtime import flow_run  # noqa: E402
from prefect.task_runners import ThreadPoolTaskRunner  # noqa: E402


@task(task_run_name="{name}")
def step(name):
    return name


@flow(task_runner=ThreadPoolTaskRunner(max_workers=20))
def experiment(steps):
    futures = {}
    for name, needs in steps:
        futures[name] = step.submit(name, wait_for=[futures[need] for need in needs])
    wait(list(futures.values()))
    return flow_run.id


def ask(path, question=None):
    data = None if question is None else json.dumps(question).encode()
    request = urllib.request.Request(api + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def until(is_so, seconds):
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"The server did not get there within {seconds} s.")
        time.sleep(0.5)


def is_healthy():
    try:
        return ask("/health")
    except OSError:
        return False


def run(chains):
    steps = graph(chains)
    run_id = str(experiment(steps))
    completed = {
        "flow_runs": {"id": {"any_": [run_id]}},
        "task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}},
    }
    # The server takes note of states after the tasks have ended.
    until(lambda: ask("/task_runs/count", completed) >= len(steps), 600)
    return len(steps)


server = subprocess.Popen(
    [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
)
try:
    until(is_healthy, 300)
    serve(run)
finally:
    server.terminate()
    server.wait()
    shutil.rmtree(home, ignore_errors=True)
