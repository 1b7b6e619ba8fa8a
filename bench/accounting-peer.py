"""Peer of the accounting benchmark: dp-accounting answers one JSON request a line, with the seconds that it took."""

import json
import sys
import time

import dp_accounting
from dp_accounting.pld import PLDAccountant, privacy_loss_distribution

ADD_OR_REMOVE_ONE = dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE


def accountant():
    return PLDAccountant(ADD_OR_REMOVE_ONE)


def step(q, sigma):
    return dp_accounting.PoissonSampledDpEvent(q, dp_accounting.GaussianDpEvent(sigma))


def query(request):
    event = dp_accounting.SelfComposedDpEvent(step(request["q"], request["sigma"]), request["steps"])
    return accountant().compose(event).get_epsilon(request["delta"])


def calibration(request):
    return dp_accounting.calibrate_dp_mechanism(
        accountant,
        lambda sigma: dp_accounting.SelfComposedDpEvent(step(request["q"], sigma), request["steps"]),
        request["target"],
        request["delta"],
        tol=request["tolerance"],
    )


def increments(request):
    """One step after another, its distribution built only once; epsilon at the end."""
    one = privacy_loss_distribution.from_gaussian_mechanism(request["sigma"], sampling_prob=request["q"])
    running = one
    for _ in range(request["steps"] - 1):
        running = running.compose(one)
    return running.get_epsilon_for_delta(request["delta"])


def readings(request):
    """Epsilon after each step, by the accountant."""
    running = accountant()
    for _ in range(request["steps"]):
        running.compose(step(request["q"], request["sigma"]))
        epsilon = running.get_epsilon(request["delta"])
    return epsilon


tasks = {"query": query, "calibration": calibration, "increments": increments, "readings": readings}
print("ready", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    started = time.perf_counter()
    value = tasks[asked["task"]](asked)
    print(json.dumps({"seconds": time.perf_counter() - started, "value": value}), flush=True)
