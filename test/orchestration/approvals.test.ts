import { expect, it } from 'vitest';
import { Approvals } from '../../workflows/approvals.ts';

it('carry what is not recorded yet to the run that continues, once', () => {
  const before = new Approvals();
  before.wait({ steps: ['synthetic'] });
  before.give('ada@lab', 'agreed on', 1);
  before.takeUnrecorded();
  before.wait({ steps: ['synthetic', 'classifier'] });
  before.give('ada@lab', 'looks right', 2);
  const after = new Approvals(before.carried());
  expect(after.isStepApproved('classifier')).toBe(true);
  expect(after.takeUnrecorded()).toMatchObject([{ reason: 'looks right', steps: ['classifier'] }]);
  expect(new Approvals(after.carried()).hasUnrecorded()).toBe(false);
});

it('count as recorded when an earlier version handed them on', () => {
  const approval = { author: 'ada@lab', reason: 'agreed on', time: 1, steps: ['synthetic'], accounts: [] };
  expect(new Approvals({ approvals: [approval] }).hasUnrecorded()).toBe(false);
});
