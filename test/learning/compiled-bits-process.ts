/** @file Prints a digest of what compiled products and softmaxes give, for comparison between processes. */

import { createHash } from 'node:crypto';
import { compile } from '../../learning/compile/index.ts';
import { tf, type Tensor } from '../../learning/tensorflow.ts';

const x = tf.randomNormal([256, 512], 0, 1, 'float32', 1) as Tensor;
const w = tf.randomNormal([512, 512], 0, 1, 'float32', 2) as Tensor;
const compiled = compile(({ x, w }: { x: Tensor; w: Tensor }) => {
  const mixed = tf.matMul(tf.softmax(tf.matMul(x, w)), w, false, true);
  return [mixed, tf.matMul(x, mixed, true, false), mixed.sum(0)];
});
const digest = createHash('sha256');
for (const tensor of compiled({ x, w })) digest.update(tensor.dataSync() as Float32Array);
process.stdout.write(`${digest.digest('hex')}\n`);
