/** Loads TensorFlow under tfjs, multiplies two matrices and prints the library's version: the proof that it works. */

const util = require('node:util');

// Gone since Node 23; tfjs-node calls it.
util.isNullOrUndefined ??= (value) => value === null || value === undefined;
process.env.TF_CPP_MIN_LOG_LEVEL ??= '3';

const tf = require('@tensorflow/tfjs-node-gpu');

const product = tf.matMul(tf.tensor2d([1, 2, 3, 4], [2, 2]), tf.tensor2d([5, 6, 7, 8], [2, 2]));
if (tf.getBackend() !== 'tensorflow' || String(product.dataSync()) !== '19,22,43,50') process.exit(1);
console.log(tf.backend().binding.TF_Version);
