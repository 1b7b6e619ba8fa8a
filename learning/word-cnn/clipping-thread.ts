/** @file Main program of a thread that clips gradients: see `clipping-threads.ts`. It says nothing but how far it is. */

import { parentPort, workerData } from 'node:worker_threads';

import { done, handedOut, type BatchTask, type ThreadReport, type ThreadStart } from './clipping-memory.ts';
import { wordCnnViews } from './parameters.ts';
import { TextClipper } from './text-clipper.ts';
import { TextNetwork } from './text-network.ts';

/** Texts that a thread takes at once: few, so that none waits long for another at the end of a batch. */
const handful = 16;

const { memory, sums } = workerData as ThreadStart;
const { shape, texts, labels, products, clipNorm, drawn, losses, counters } = memory;
const clipper = new TextClipper(
  new TextNetwork(shape, wordCnnViews(shape, memory.weights)),
  { places: texts.words, starts: texts.starts, products },
  labels,
  clipNorm,
  wordCnnViews(shape, sums),
);
const report = (message: ThreadReport): void => parentPort!.postMessage(message);

parentPort!.on('message', ({ texts: count, microbatch }: BatchTask) => {
  sums.fill(0);
  for (;;) {
    const from = Atomics.add(counters, handedOut, handful);
    if (from >= count) break;
    const to = Math.min(count, from + handful);
    for (let at = from; at < to; at++) losses[at] = clipper.add(drawn[at]!);
    const before = Atomics.add(counters, done, to - from);
    if (Math.floor(before / microbatch) !== Math.floor((before + to - from) / microbatch)) report('microbatch');
  }
  report('idle');
});
