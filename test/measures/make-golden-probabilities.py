"""Figures of predicted probabilities by scikit-learn, for test/measures/probabilities.test.ts.

    pip install scikit-learn==1.9.1
    python test/measures/make-golden-probabilities.py > test/measures/golden-probabilities.json

AUROC and log loss are scikit-learn's. It has no calibration error: that is Guo et al. 2017, eq. 2 and 3, by their bins.
"""

import json

import numpy as np
from sklearn.metrics import log_loss, roc_auc_score

rng = np.random.default_rng(5)


def calibration_error(probabilities, labels, bins=15):
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    edges = np.linspace(0, 1, bins + 1)
    total = 0.0
    for low, high in zip(edges[:-1], edges[1:]):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


def case(records, classes, scale, digits):
    labels = rng.integers(0, classes, records)
    logits = rng.normal(size=(records, classes)) * scale
    logits[np.arange(records), labels] += 1
    shares = np.exp(logits)
    shares /= shares.sum(1, keepdims=True)
    # Few digits, so that many scores are equal.
    shares = np.round(shares, digits)
    shares[:, -1] = 1 - shares[:, :-1].sum(1)
    auroc = (
        roc_auc_score(labels, shares[:, 1])
        if classes == 2
        else roc_auc_score(labels, shares, multi_class="ovr", average="macro")
    )
    return {
        "classes": classes,
        "labels": labels.tolist(),
        "probabilities": shares.ravel().tolist(),
        "auroc": float(auroc),
        "logLoss": float(log_loss(labels, np.clip(shares, 0, 1), labels=list(range(classes)))),
        "calibrationError": float(calibration_error(shares, labels)),
    }


print(json.dumps([case(200, 2, 1.0, 2), case(150, 2, 3.0, 6), case(240, 4, 1.5, 2)]))
