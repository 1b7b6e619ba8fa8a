import { describe, expect, it } from 'vitest';

import { areaUnderRoc, calibrationError, logLoss } from '../../measures/index.ts';
import golden from './golden-probabilities.json' with { type: 'json' };

describe('figures of predicted probabilities', () => {
  it.each(golden.map((each) => [each.classes, each.labels.length, each] as const))(
    'of %i classes over %i records are those of scikit-learn',
    (classes, _, { labels, probabilities, ...expected }) => {
      const shares = Float64Array.from(probabilities);
      expect(areaUnderRoc(shares, labels, classes)).toBeCloseTo(expected.auroc, 12);
      expect(logLoss(shares, labels, classes)).toBeCloseTo(expected.logLoss, 12);
      expect(calibrationError(shares, labels, classes)).toBeCloseTo(expected.calibrationError, 12);
    },
  );

  it('are worked by hand where there are few records', () => {
    const shares = Float64Array.of(0.8, 0.2, 0.4, 0.6, 0.6, 0.4, 0.1, 0.9);
    const labels = [0, 0, 1, 1];
    // Of the four pairs of a positive and a negative record three are in order.
    expect(areaUnderRoc(shares, labels, 2)).toBe(3 / 4);
    expect(logLoss(shares, labels, 2)).toBeCloseTo(-Math.log(0.8 * 0.4 * 0.4 * 0.9) / 4, 12);
    // 0.6 twice, wrongly both times; 0.8 and 0.9 rightly.
    expect(calibrationError(shares, labels, 2)).toBeCloseTo((2 * 0.6 + 0.2 + 0.1) / 4, 12);
  });

  it('have no area where a class has no record, and a finite loss where a true class is said to be impossible', () => {
    expect(areaUnderRoc(Float64Array.of(0.5, 0.5), [1], 2)).toBeNull();
    expect(areaUnderRoc(Float64Array.of(0.2, 0.3, 0.5, 0.1, 0.8, 0.1), [0, 1], 3)).toBeNull();
    expect(logLoss(Float64Array.of(1, 0), [1], 2)).toBeCloseTo(52 * Math.LN2, 12);
  });
});
