"""Figures of measures by other implementations, for test/measures/text-measures.test.ts.

    pip install scipy==1.17.1 nltk==3.10.4 scikit-learn==1.9.1
    python test/measures/make-golden.py > test/measures/golden.json

Jensen-Shannon by scipy, BLEU by nltk, naive Bayes by scikit-learn; Jaccard similarities by comparing all pairs.
"""

import json
import random
from collections import Counter

import numpy as np
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from scipy.spatial.distance import jensenshannon
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import MultinomialNB

rng = random.Random(7)
vocabulary = [f"{a}{b}" for a in ["ba", "ko", "mi", "tu", "re"] for b in ["lan", "ros", "vim", "dek", "so", "pul"]]
weights = [1 / (1 + place) for place in range(len(vocabulary))]


def texts(count, shift):
    shifted = weights[shift:] + weights[:shift]
    return [rng.choices(vocabulary, shifted, k=rng.randint(2, 12)) for _ in range(count)]


def grams(rows, n):
    return Counter(tuple(row[i : i + n]) for row in rows for i in range(len(row) - n + 1))


def divergence(p, q):
    keys = sorted(set(p) | set(q))
    return jensenshannon([p[k] for k in keys], [q[k] for k in keys], base=2) ** 2


def bleu(rows):
    smoothing = SmoothingFunction().method1
    return [
        float(sentence_bleu(rows[:i] + rows[i + 1 :], row, smoothing_function=smoothing)) for i, row in enumerate(rows)
    ]


def shingles(text):
    return {text[i : i + 5] for i in range(max(1, len(text) - 4))}


def similarities(left, right):
    return [[len(a & b) / len(a | b) for b in map(shingles, right)] for a in map(shingles, left)]


a, b = texts(60, 0), texts(60, 4)
labels = [(len(row) + vocabulary.index(row[0])) % 3 for row in a]
close = [" ".join(row) for row in a[:30]]
near = [text.replace("lan", "lam", rng.randint(0, 2)) for text in close]

count = CountVectorizer(token_pattern=r"\S+")
classifier = MultinomialNB(alpha=1.0).fit(count.fit_transform([" ".join(row) for row in a]), labels)
predicted = classifier.predict(count.transform([" ".join(row) for row in b])).tolist()

print(
    json.dumps(
        {
            "a": a,
            "b": b,
            "labels": labels,
            "divergences": [float(divergence(grams(a, n), grams(b, n))) for n in (1, 2, 3)],
            "lengthDivergence": float(divergence(Counter(map(len, a)), Counter(map(len, b)))),
            "distinct": [len(grams(a, n)) / sum(grams(a, n).values()) for n in (1, 2, 3)],
            "bleu": bleu(a),
            "predicted": predicted,
            "near": near,
            "similarities": similarities(close, near),
        }
    )
)
