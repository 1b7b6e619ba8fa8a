/** @file Public door of text overlap: which runs of tokens two collections of texts share, and texts without them. */

export { commonRuns, type CommonRun, type CommonRuns } from './common-runs.ts';
export { cutText, spansOf, type Span } from './cut.ts';
