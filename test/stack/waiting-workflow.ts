import { condition, defineSignal, setHandler } from '@temporalio/workflow';

/** Ends when it is told to. */
export async function waiting(): Promise<void> {
  let isOver = false;
  setHandler(defineSignal('end'), () => {
    isOver = true;
  });
  await condition(() => isOver);
}
