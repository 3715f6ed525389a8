/** The byte-level BPE tokenizer of Qwen2: texts to token ids and back. */
import type { StreamingDecoder } from './streaming-decoder.js'

/** Texts of a checkpoint's tokenizer files: `tokenizer.json`, or `vocab.json` with `merges.txt`. */
export interface TokenizerFiles {
  tokenizerJson?: string
  vocabJson?: string
  mergesTxt?: string
  tokenizerConfigJson?: string
}

/** How a text is encoded. */
export interface EncodeOptions {
  /** Whether `<|im_start|>` and the like are tokens (default) or plain text. */
  addedTokens?: boolean
}

/** How ids are decoded. */
export interface DecodeOptions {
  /** Leave out the tokens marked special, `<|im_end|>` or `<|box_start|>` for example. Default: true. */
  skipSpecialTokens?: boolean
}
export type { StreamingDecoder }
