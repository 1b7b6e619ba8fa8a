import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // TensorFlow and the Temporal worker are native code with state of their own: one process a test file.
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // The summary comes last.
    reporters: ['./test/not-run-reporter.ts', 'default'],
  },
});
