"""What the peers of the orchestration benchmark share: the graph, processor time, and how they are asked."""

import json
import os
import sys

TICKS = os.sysconf("SC_CLK_TCK")

# What an engine prints goes where progress goes: answers alone go to stdout.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def graph(chains):
    """Steps as (name, names of those that it needs), in order: `planOf` of orchestration.ts."""
    steps = []
    for chain in range(chains):
        before = []
        for kind in ("base", "generator", "synthetic", "classifier"):
            steps.append((f"{kind}_{chain}", before))
            before = [f"{kind}_{chain}"]
    for first in range(0, chains, 10):
        arms = range(first, min(first + 10, chains))
        steps.append((f"comparison_{first}", [f"classifier_{chain}" for chain in arms]))
    return steps


def processor_time():
    """Milliseconds that this process and all that it started have used."""
    parents, used = {}, {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        parents[pid] = fields[1]
        used[pid] = sum(map(int, fields[11:15]))
    own = {str(os.getpid())}
    while found := {pid for pid, parent in parents.items() if parent in own and pid not in own}:
        own |= found
    return sum(used.get(pid, 0) for pid in own) * 1000 / TICKS


def serve(run):
    """Answers each line {"chains": N} by the steps that `run(chains)` has completed, and what they cost."""

    def answer(value):
        print(json.dumps(value), file=answers, flush=True)

    answer("ready")
    for line in sys.stdin:
        before = processor_time()
        steps = run(json.loads(line)["chains"])
        answer({"milliseconds": processor_time() - before, "steps": steps})
