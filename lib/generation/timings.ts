/** Where the time of a request went. */
import type { NativeStats } from '../native.js'
import type { Timings } from './result.js'

/** Of the answers to one prompt, which run beside each other. */
export function toTimings(
  answers: readonly NativeStats[],
  preprocessMs: number,
  completionTokens: number,
): Timings {
  const most = (key: 'visionMs' | 'prefillMs') => Math.max(...answers.map((stats) => stats[key]))
  const firstTokenMs = Math.min(...answers.map((stats) => stats.firstTokenMs))
  const endMs = Math.max(...answers.map((stats) => stats.firstTokenMs + stats.decodeMs))
  const decodeMs = endMs - firstTokenMs
  const decoded = completionTokens - answers.length
  return {
    queueMs: Math.min(...answers.map((stats) => stats.queueMs)),
    preprocessMs,
    visionMs: most('visionMs'),
    prefillMs: most('prefillMs'),
    firstTokenMs: preprocessMs + firstTokenMs,
    decodeMs,
    tokensPerSecond: decoded > 0 && decodeMs > 0 ? (1000 * decoded) / decodeMs : 0,
  }
}
