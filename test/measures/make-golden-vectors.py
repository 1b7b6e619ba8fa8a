"""Figures of measures on vectors by other implementations, for test/measures/vector-measures.test.ts.

    pip install numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1 faiss-cpu==1.15.1 mauve-text==0.4.0
    python test/measures/make-golden-vectors.py > test/measures/golden-vectors.json

MAUVE by mauve-text at its default settings under 20 seeds, the Frechet distance by scipy's matrix root, precision and
recall by comparing all pairs with numpy.
"""

import json

import mauve
import numpy as np
from scipy.linalg import sqrtm
from sklearn.decomposition import PCA
from sklearn.preprocessing import normalize

rng = np.random.default_rng(7)
dim, rows = 12, 300
scale = np.linspace(2, 0.1, dim)
centres = rng.normal(size=(6, dim)) * 2


def draw(shares, shift):
    group = rng.choice(6, size=rows, p=shares)
    return np.round(centres[group] + rng.normal(size=(rows, dim)) * scale + shift, 3)


a = draw([0.3, 0.2, 0.2, 0.1, 0.1, 0.1], 0)
b = draw([0.1, 0.1, 0.1, 0.2, 0.2, 0.3], 0.25)


def frechet(p, q):
    (m, s), (n, t) = [(x.mean(0), np.cov(x, rowvar=False)) for x in (p, q)]
    return float(((m - n) ** 2).sum() + np.trace(s + t - 2 * sqrtm(s @ t).real))


def distances(p, q):
    return np.sqrt(((p[:, None] - q[None]) ** 2).sum(-1))


def covered(points, support):
    radii = np.sort(distances(support, support), axis=1)[:, 3]
    return float((distances(points, support) <= radii[None]).any(1).mean())


scores = [float(mauve.compute_mauve(a, b, seed=seed, verbose=False).mauve) for seed in range(20)]
once = mauve.compute_mauve(a, b, seed=25, verbose=False)
explained = PCA().fit(normalize(np.vstack([b, a]))).explained_variance_ratio_
print(
    json.dumps(
        {
            "a": a.tolist(),
            "b": b.tolist(),
            "histograms": [once.p_hist.tolist(), once.q_hist.tolist()],
            "mauve": float(once.mauve),
            "mauveBySeed": scores,
            "buckets": int(once.num_buckets),
            "components": int(np.argmax(np.cumsum(explained) >= 0.9)) + 1,
            "frechet": frechet(a, b),
            "precision": covered(a, b),
            "recall": covered(b, a),
        }
    )
)
