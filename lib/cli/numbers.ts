/** Numbers among the arguments of commands. */
import { InvalidArgumentError as InvalidOptionError } from 'commander'

/** A whole number, not negative. */
export function integer(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidOptionError('It must be a whole number.')
  return Number(text)
}

/** A number. */
export function number(text: string): number {
  const value = Number(text)
  if (text.trim() === '' || !Number.isFinite(value))
    throw new InvalidOptionError('It must be a number.')
  return value
}
