/** Many requests at once, each settling on its own. */
import { z } from 'zod'
import { InvalidArgumentError } from '../errors.js'
import type { Abort } from './abort.js'
import { Limiter } from './limiter.js'
import { parseOptions } from './parse-options.js'
import type { GenerateResult } from './result.js'

const batchSchema = z.strictObject({
  /** Ends the requests that are not done: their place in the result has `signal.reason`. */
  signal: z.instanceof(AbortSignal).optional(),
  /** Called as each request ends, in whatever order. An error it throws ends the batch. */
  onResult: z
    .custom<(index: number, result: GenerateResult | Error) => void>(
      (value) => typeof value === 'function',
      { error: 'must be a function' },
    )
    .optional(),
  /** Requests under way at once. Default: the model's `maxConcurrency`. */
  concurrency: z.int().min(1).optional(),
})

/**
 * How `generateBatch()` runs its requests.
 *
 * @interface
 */
export type BatchOptions = z.output<typeof batchSchema>

/** Runs one request; `batch` ends it early. */
export type RunOne = (request: unknown, batch: Abort) => Promise<GenerateResult>

/** The results in the order of the requests, an error in place of each that failed. */
export async function runBatch(
  requests: unknown,
  given: unknown,
  { batch, maxConcurrency, runOne }: { batch: Abort; maxConcurrency: number; runOne: RunOne },
): Promise<(GenerateResult | Error)[]> {
  if (!Array.isArray(requests)) {
    throw new InvalidArgumentError(
      'generateBatch() needs a list of requests, each as for generate().',
      { path: 'requests' },
    )
  }
  const { signal, onResult, concurrency } = parseOptions(batchSchema, given, {
    what: 'generateBatch() options',
    example: '{ concurrency: 8 }',
    aliases: { abortSignal: 'signal' },
  })
  if (signal) batch.follow(signal)
  const limiter = new Limiter(concurrency ?? maxConcurrency)
  const settle = async (request: unknown): Promise<GenerateResult | Error> => {
    try {
      return await runOne(request, batch)
    } catch (error) {
      return error instanceof Error ? error : new Error(String(error), { cause: error })
    }
  }
  const run = async (request: unknown, index: number) => {
    const result = await limiter.run(() => settle(request))
    try {
      onResult?.(index, result)
    } catch (error) {
      batch.abort(error)
      throw error
    }
    return result
  }
  return Promise.all(requests.map(run))
}
