/** The JavaScript library of the reference, which its authors keep equal to the Rust one. */
import { Tokenizer } from '@huggingface/tokenizers'
import type { TokenizerDescription } from './real-vocabulary.js'

export interface Oracle {
  encode(text: string): number[]
  decode(ids: number[]): string
}

interface Library {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] }
  decode(ids: number[]): string
}

export function createOracle(description: TokenizerDescription): Oracle {
  // Its type declarations cannot be resolved by TypeScript in the mode of this project.
  const construct = Tokenizer as unknown as new (description: object, config: object) => Library
  const library = new construct(description, { clean_up_tokenization_spaces: false })
  return {
    encode: (text) => library.encode(text, { add_special_tokens: false }).ids,
    decode: (ids) => library.decode(ids),
  }
}
