/** `generation_config.json`: the sampling defaults of a checkpoint. */
import { TOKEN_ID } from './config.js'
import { Fields } from './fields.js'
import type { JsonObject } from './files.js'

/** What the file says; undefined where it is silent. */
export interface GenerationDefaults {
  doSample: boolean | undefined
  temperature: number | undefined
  topP: number | undefined
  topK: number | undefined
  minP: number | undefined
  repetitionPenalty: number | undefined
  noRepeatNgramSize: number | undefined
  eosTokenIds: number[] | undefined
  padTokenId: number | undefined
}

/** Reads and checks the file; a checkpoint without one gives `{}` here. */
export function parseGenerationConfig(json: JsonObject, file: string): GenerationDefaults {
  const fields = new Fields(file, json)
  return {
    doSample: fields.optionalBoolean('do_sample'),
    temperature: fields.optionalNumber('temperature', { min: 0, max: 1e6 }),
    topP: fields.optionalNumber('top_p', { min: 0, max: 1 }),
    topK: fields.optionalInteger('top_k', { min: 0, max: 1 << 24 }),
    minP: fields.optionalNumber('min_p', { min: 0, max: 1 }),
    // 0 would divide by zero, and nothing near it is a penalty anyone meant.
    repetitionPenalty: fields.optionalNumber('repetition_penalty', { min: 1e-3, max: 1e3 }),
    noRepeatNgramSize: fields.optionalInteger('no_repeat_ngram_size', { min: 0, max: 1 << 24 }),
    eosTokenIds: fields.optionalIds('eos_token_id', TOKEN_ID),
    padTokenId: fields.optionalInteger('pad_token_id', TOKEN_ID),
  }
}
