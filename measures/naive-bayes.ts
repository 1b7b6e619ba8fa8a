/** @file Multinomial naive Bayes on words (McCallum and Nigam 1998), one added to each count. */

export interface NaiveBayes {
  /** Index of the most probable class, the first of equal ones. Words that it has not seen say nothing. */
  classify(words: readonly string[]): number;
}

/** @param labels class index of each text; @param classes each must occur */
export function trainNaiveBayes(
  texts: readonly (readonly string[])[],
  labels: ArrayLike<number>,
  classes: number,
): NaiveBayes {
  const counts = new Map<string, Float64Array>();
  const totals = new Float64Array(classes);
  const documents = new Float64Array(classes);
  texts.forEach((words, index) => {
    const label = labels[index]!;
    documents[label]! += 1;
    totals[label]! += words.length;
    for (const word of words) {
      let row = counts.get(word);
      if (row === undefined) counts.set(word, (row = new Float64Array(classes)));
      row[label]! += 1;
    }
  });
  const logPriors = documents.map((count) => Math.log(count / texts.length));
  for (const row of counts.values()) {
    row.forEach((count, label) => (row[label] = Math.log((count + 1) / (totals[label]! + counts.size))));
  }
  return {
    classify(words) {
      const scores = logPriors.slice();
      for (const word of words) counts.get(word)?.forEach((log, label) => (scores[label]! += log));
      return scores.indexOf(Math.max(...scores));
    },
  };
}
