/** The logit bias of a request, from what callers write to token ids. */
import { InvalidArgumentError } from '../errors.js'
import type { Tokenizer } from '../tokenizer/tokenizer.js'

/**
 * Brings keys to token ids. Digits alone are an id, as in the OpenAI API; anything else is a text that
 * must be exactly one token.
 *
 * @throws InvalidArgumentError for a text of several tokens, an id outside the vocabulary, or two keys
 * that are one token.
 */
export function resolveLogitBias(
  given: Readonly<Record<string, number>>,
  tokenizer: Tokenizer,
  vocabSize: number,
): Record<number, number> {
  const biases: Record<number, number> = {}
  for (const [key, bias] of Object.entries(given)) {
    const id = /^\d+$/.test(key) ? Number(key) : singleToken(key, tokenizer)
    if (id >= vocabSize) {
      throw invalid(key, `is no token: ids of this model end at ${vocabSize - 1}.`)
    }
    if (Object.hasOwn(biases, id)) {
      throw invalid(key, `is token ${id}, which another key names too. Give it once.`)
    }
    biases[id] = bias
  }
  return biases
}

function singleToken(text: string, tokenizer: Tokenizer): number {
  const ids = tokenizer.encode(text)
  const [id] = ids
  if (id !== undefined && ids.length === 1) return id
  throw invalid(
    text,
    `is ${ids.length} tokens (${ids.slice(0, 8).join(', ')}), not one. Give a text that is one token, or token ids.`,
  )
}

function invalid(key: string, problem: string): InvalidArgumentError {
  const shown = key.length > 40 ? `${key.slice(0, 40)}…` : key
  return new InvalidArgumentError(
    `generate() request: the key '${shown}' of logitBias ${problem}`,
    {
      path: `logitBias.${shown}`,
    },
  )
}
