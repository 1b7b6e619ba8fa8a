"""Dagster runs the graph: a job of ops in one process, with an instance that keeps its events and results."""

import os
import shutil
import tempfile

home = tempfile.mkdtemp()
os.environ.update(DAGSTER_HOME=home, DAGSTER_DISABLE_TELEMETRY="1")

from dagster import (  # noqa: E402
    DagsterInstance,
    DependencyDefinition,
    FilesystemIOManager,
    GraphDefinition,
    In,
    MultiDependencyDefinition,
    NodeInvocation,
    in_process_executor,
    op,
)
from peer import graph, serve  # noqa: E402


@op
def first(context):
    return context.op_handle.name


@op(ins={"needs": In()})
def later(context, needs):
    return context.op_handle.name


def job(steps):
    dependencies = {}
    for name, needs in steps:
        invocation = NodeInvocation("later" if needs else "first", alias=name)
        inputs = {"needs": MultiDependencyDefinition([DependencyDefinition(need) for need in needs])} if needs else {}
        dependencies[invocation] = inputs
    definition = GraphDefinition("experiment", node_defs=[first, later], dependencies=dependencies)
    return definition.to_job(
        executor_def=in_process_executor,
        resource_defs={"io_manager": FilesystemIOManager(base_dir=os.path.join(home, "results"))},
    )


def run(chains):
    quiet = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
    result = job(graph(chains)).execute_in_process(run_config=quiet, instance=instance)
    return sum(event.is_step_success for event in result.all_events)


with open(os.path.join(home, "dagster.yaml"), "w") as settings:
    settings.write("telemetry:\n  enabled: false\n")
try:
    with DagsterInstance.get() as instance:
        serve(run)
finally:
    shutil.rmtree(home, ignore_errors=True)
