/** @file Exposure of a canary (Carlini et al. 2019, arXiv:1802.08232, section 4). */

/**
 * log2 |R| - log2 rank: by how many bits a model has narrowed a search for the canary. R are the candidates, drawn as it
 * was and never trained on, and the canary; its rank is 1 where none of them is likelier. Of ties the better rank counts.
 * At most log2 |R|, and half of all canaries that a model has not seen have at least 1.
 *
 * @param nats that the model gives it; @param candidates the same of the others
 */
export function exposure(nats: number, candidates: ArrayLike<number>): number {
  let likelier = 0;
  for (let place = 0; place < candidates.length; place++) likelier += Number(candidates[place]! < nats);
  return Math.log2(candidates.length + 1) - Math.log2(likelier + 1);
}
