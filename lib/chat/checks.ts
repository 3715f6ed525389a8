/** What the checks of messages share: words for values, and errors that name their place. */
import { InvalidArgumentError } from '../errors.js'
import { nearestName } from '../suggest.js'

/** Throws for a key that is not known, with the one that was meant where that can be guessed. */
export function refuseUnknownKeys(
  object: Record<string, unknown>,
  known: readonly string[],
  path: string,
): void {
  for (const key of Object.keys(object)) {
    if (known.includes(key) || object[key] === undefined) continue
    const suggestion = nearestName(key, known)
    throw invalid(
      `${path}.${key}`,
      `${path}.${key} is not known. ` +
        (suggestion === undefined
          ? `The keys here are ${quoted(known)}.`
          : `Did you mean '${suggestion}'?`),
      suggestion,
    )
  }
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** What a value is, in words: `null`, `a number`, `an instance of Blob`. */
export function nameOf(value: unknown): string {
  if (value === undefined || value === null) return String(value)
  if (Array.isArray(value)) return 'a list'
  if (typeof value !== 'object') return value === '' ? 'an empty string' : `a ${typeof value}`
  const prototype: unknown = Object.getPrototypeOf(value)
  const name = isRecord(prototype) ? prototype.constructor.name : ''
  return name === '' || name === 'Object' ? 'an object' : `an instance of ${name}`
}

/** Numbers as they are, everything else in words. */
export function shown(value: unknown): string {
  return typeof value === 'number' ? String(value) : nameOf(value)
}

export function quoted(names: readonly string[]): string {
  return names.map((name) => `'${name}'`).join(', ')
}

export function invalid(path: string, message: string, suggestion?: string): InvalidArgumentError {
  return new InvalidArgumentError(message, {
    path,
    ...(suggestion !== undefined && { suggestion }),
  })
}
