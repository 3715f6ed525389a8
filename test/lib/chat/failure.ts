import { expect } from 'vitest'
import { normalizeMessages } from '../../../lib/chat/messages.js'
import { InvalidArgumentError } from '../../../lib/errors.js'

/** What is wrong with messages that are refused. */
export function failure(messages: unknown): InvalidArgumentError {
  try {
    normalizeMessages(messages)
  } catch (error) {
    expect(error).toBeInstanceOf(InvalidArgumentError)
    return error as InvalidArgumentError
  }
  throw new Error('Nothing was thrown.')
}
