/** Long work on the main thread, in stretches that let the event loop breathe. */
import { setImmediate } from 'node:timers/promises'

/** Well below the 10 ms that the event loop may be late. */
const sliceMs = 4

/**
 * Runs the steps of a generator, and lets the event loop run whenever the time of one slice is used
 * up. The stretch between two `yield`s must be short.
 */
export async function runInSlices<Result>(steps: Generator<void, Result, void>): Promise<Result> {
  let sliceEnd = performance.now() + sliceMs
  for (;;) {
    const step = steps.next()
    if (step.done === true) return step.value
    if (performance.now() < sliceEnd) continue
    await setImmediate()
    sliceEnd = performance.now() + sliceMs
  }
}

/** Runs the steps of a generator to the end, at once. */
export function runAtOnce<Result>(steps: Generator<void, Result, void>): Result {
  for (;;) {
    const step = steps.next()
    if (step.done === true) return step.value
  }
}
