/** The tables of a tokenizer, built from its checked files. */
import { MergeTable } from './merge-table.js'
import { faulty, type TokenizerData } from './tokenizer-files.js'
import type { TokenTable } from './token-table.js'

/** What texts are encoded with, and ids decoded. */
export interface Vocabulary {
  tokens: TokenTable
  /** The id of each byte's own token, [256]. */
  byteIds: Int32Array
  merges: MergeTable
  /** 1 for ids that `skipSpecialTokens` leaves out, [tokens.size]. */
  special: Uint8Array
}

/** Builds the tables, yielding every thousand merges. */
export function* buildVocabulary(data: TokenizerData): Generator<void, Vocabulary, void> {
  const { tokens, addedTokens } = data
  const byteIds = byteTokenIds(data)
  const merges = yield* buildMerges(data)
  for (const { content, id } of addedTokens) tokens.addText(content, id)
  const special = new Uint8Array(tokens.size)
  for (const token of addedTokens) special[token.id] = token.special ? 1 : 0
  return { tokens, byteIds, merges, special }
}

function byteTokenIds({ tokens, vocabFile }: TokenizerData): Int32Array {
  return Int32Array.from({ length: 256 }, (_, byte) => {
    const id = tokens.find(Uint8Array.of(byte), 0, 1)
    if (id >= 0) return id
    throw faulty(
      vocabFile,
      `${vocabFile}: the vocabulary has no token for the byte ${byte}. ` +
        'It is not a byte-level vocabulary, or parts of it are missing.',
    )
  })
}

function* buildMerges(data: TokenizerData): Generator<void, MergeTable, void> {
  const { tokens, merges, mergesFile } = data
  const table = new MergeTable(merges.size)
  const { bytes } = merges
  let start = 0
  for (let rank = 0; rank < merges.size; rank++) {
    const leftLength = merges.leftLength(rank)
    const rightLength = merges.rightLength(rank)
    const left = tokens.find(bytes, start, leftLength)
    const right = tokens.find(bytes, start + leftLength, rightLength)
    const merged = tokens.find(bytes, start, leftLength + rightLength)
    if (left < 0 || right < 0 || merged < 0) {
      const leftToken = merges.token(start, leftLength)
      const rightToken = merges.token(start + leftLength, rightLength)
      const missing = left < 0 ? leftToken : right < 0 ? rightToken : leftToken + rightToken
      throw faulty(
        mergesFile,
        `${mergesFile}: merge ${rank} joins ${JSON.stringify(leftToken)} and ` +
          `${JSON.stringify(rightToken)}, but the vocabulary has no token ` +
          `${JSON.stringify(missing)}. Vocabulary and merges must come from the same model.`,
      )
    }
    table.add(left, right, rank, merged)
    start += leftLength + rightLength
    if (rank % 1024 === 1023) yield
  }
  return table
}
