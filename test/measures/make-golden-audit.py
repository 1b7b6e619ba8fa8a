"""Figures of audits by other implementations, for test/measures/audit.test.ts.

    pip install scipy==1.17.1 scikit-learn==1.9.1
    python test/measures/make-golden-audit.py > test/measures/golden-audit.json

The bound by one run in 40 digits, from the binomial's definition and scanning all i; ROC curves by
scikit-learn, their areas' intervals from all pairs (DeLong, DeLong, Clarke-Pearson 1988); proportions by scipy.
"""

import json
import random
from decimal import Decimal, getcontext
from math import comb

import numpy as np
from scipy.stats import binomtest, norm
from sklearn.metrics import roc_auc_score, roc_curve

getcontext().prec = 40
zero, one = Decimal(0), Decimal(1)


def probability(m, r, v, epsilon, delta):
    p = 1 / (1 + (-Decimal(epsilon)).exp())
    law = [comb(r, k) * p**k * (1 - p) ** (r - k) for k in range(r + 1)]
    beta = sum(law[v:], zero)
    alpha = max((Decimal(2) / i * sum(law[max(0, v - i) : v], zero) for i in range(1, m + 1)), default=zero)
    return min(one, beta + alpha * m * delta)


def bound(m, r, v, delta, failure):
    if probability(m, r, v, 0, delta) >= failure:
        return 0.0
    low, high = zero, Decimal(30)
    for _ in range(50):
        middle = (low + high) / 2
        if probability(m, r, v, middle, delta) < failure:
            low = middle
        else:
            high = middle
    return float(low)


cases = [
    (100, 100, 100, "0", "0.05"),
    (100, 100, 90, "0", "0.05"),
    (100, 60, 55, "1e-5", "0.05"),
    (100, 100, 100, "1e-5", "1e-6"),
    (200, 200, 200, "1e-10", "1e-6"),
    (200, 50, 50, "1e-10", "1e-6"),
    (200, 150, 120, "1e-10", "1e-6"),
    (200, 200, 110, "1e-10", "1e-6"),
    (200, 12, 12, "1e-10", "1e-6"),
    (200, 0, 0, "1e-10", "1e-6"),
]
bounds = [
    {
        "canaries": m,
        "guesses": r,
        "correct": v,
        "delta": float(delta),
        "failure": float(failure),
        "atOne": float(probability(m, r, v, 1, Decimal(delta))),
        "epsilon": bound(m, r, v, Decimal(delta), Decimal(failure)),
    }
    for m, r, v, delta, failure in cases
]

rng = random.Random(11)


def scores(count, shift, decimals):
    return [round(rng.gauss(shift, 1), decimals) for _ in range(count)]


def roc(members, others):
    labels = [1] * len(members) + [0] * len(others)
    values = members + others
    area = roc_auc_score(labels, values)
    false, true, _ = roc_curve(labels, values, drop_intermediate=False)
    a, b = np.array(members)[:, None], np.array(others)[None, :]
    wins = (a > b) + (a == b) / 2
    error = np.sqrt(np.var(wins.mean(1), ddof=1) / len(members) + np.var(wins.mean(0), ddof=1) / len(others))
    reach = norm.ppf(0.975) * error
    rates = [{"falseAlarms": rate, "rate": float(true[false <= rate].max())} for rate in [0.01, 0.001]]
    return {
        "members": members,
        "others": others,
        "area": {"value": area, "low": max(0, area - reach), "high": min(1, area + reach)},
        "rates": rates,
    }


curves = [
    roc(scores(300, 0.4, 3), scores(1000, 0, 3)),
    roc(scores(200, 1, 1), scores(150, 0, 1)),
    roc(scores(50, 6, 2), scores(400, 0, 2)),
]

proportions = []
for hits, trials in [(0, 10), (10, 10), (3, 10), (1, 300), (150, 300), (9, 4000)]:
    interval = binomtest(hits, trials).proportion_ci(0.95, method="exact")
    proportions.append({"hits": hits, "trials": trials, "low": interval.low, "high": interval.high})

print(json.dumps({"bounds": bounds, "curves": curves, "proportions": proportions}))
