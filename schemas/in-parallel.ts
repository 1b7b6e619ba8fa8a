/** @file Work on many things, a few at a time. Pure but for what the work does. */

/**
 * Does `work` for each item, at most so many at a time.
 *
 * @returns the answers, in the order of the items
 * @throws what the work threw first; nothing is begun after that
 */
export async function inParallel<T, R>(most: number, items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const answers = new Array<R>(items.length);
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < items.length) {
      const place = next;
      next += 1;
      try {
        answers[place] = await work(items[place]!);
      } catch (error) {
        next = items.length;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(most, items.length) }, lane));
  return answers;
}
