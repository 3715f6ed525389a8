/** How likely the tokens of an answer were. */
import type { NativeToken } from '../native.js'
import type { Tokenizer } from '../tokenizer/tokenizer.js'

/** A token and the natural logarithm of its probability. */
export interface TopLogprob {
  /** The token's text; U+FFFD where its bytes are only part of a character. */
  token: string
  tokenId: number
  /** UTF-8 of the token. Joined over an answer, they are its text also where tokens split characters. */
  bytes: number[]
  /** Of the model itself: before bias, penalties and temperature. */
  logprob: number
}

/** A token of an answer and its likeliest alternatives. */
export interface TokenLogprob extends TopLogprob {
  /** The `topLogprobs` likeliest tokens there, likeliest first; the drawn one need not be among them. */
  topLogprobs: TopLogprob[]
}

/** What a token event of the engine says in log probabilities. */
export function toTokenLogprob(event: NativeToken, tokenizer: Tokenizer): TokenLogprob {
  const entry = (id: number, logit: number): TopLogprob => {
    const bytes = tokenizer.tokenBytes(id)
    return {
      token: Buffer.from(bytes).toString('utf8'),
      tokenId: id,
      bytes: [...bytes],
      logprob: logit - event.logSumExp,
    }
  }
  return {
    ...entry(event.id, event.logit),
    topLogprobs: (event.topLogits ?? []).map(({ id, logit }) => entry(id, logit)),
  }
}
