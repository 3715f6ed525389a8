/** Tokens by id and by text, and the bytes each one stands for. */
import { byteCharacters, tokenToBytes } from './byte-alphabet.js'
import { MergeTable } from './merge-table.js'
import { faulty, type TokenizerData } from './tokenizer-files.js'

/** The tables of a tokenizer. */
export interface Vocabulary {
  /** One more than the largest id. */
  size: number
  idByToken: Map<string, number>
  /** As the files write them: base tokens in the byte alphabet. */
  tokens: (string | undefined)[]
  /** The id of each byte's own token, [256]. */
  byteIds: Int32Array
  merges: MergeTable
  /** The bytes of all tokens, one after another. */
  bytes: Uint8Array
  /** Where each token's bytes begin, [size + 1]. */
  offsets: Int32Array
  /** 1 for ids that `skipSpecialTokens` leaves out, [size]. */
  special: Uint8Array
}

/** Builds the tables from checked files, yielding every few thousand entries. */
export function* buildVocabulary(data: TokenizerData): Generator<void, Vocabulary, void> {
  const byteIds = byteTokenIds(data)
  const merges = yield* buildMerges(data)
  const { tokens, special } = yield* tokensById(data)
  const { bytes, offsets } = yield* buildBytes(tokens, new Set(data.addedTokens.map((t) => t.id)))
  const idByToken = data.vocab
  for (const { content, id } of data.addedTokens) idByToken.set(content, id)
  return { size: tokens.length, idByToken, tokens, byteIds, merges, bytes, offsets, special }
}

function byteTokenIds({ vocab, vocabFile }: TokenizerData): Int32Array {
  return Int32Array.from(byteCharacters, (character, byte) => {
    const id = vocab.get(character)
    if (id !== undefined) return id
    throw faulty(
      vocabFile,
      `${vocabFile}: the vocabulary has no token ${JSON.stringify(character)} for the byte ${byte}. ` +
        'It is not a byte-level vocabulary, or parts of it are missing.',
    )
  })
}

function* buildMerges(data: TokenizerData): Generator<void, MergeTable, void> {
  const { vocab, merges, mergesFile } = data
  const table = new MergeTable(merges.length)
  for (const [rank, merge] of merges.entries()) {
    let left: unknown
    let right: unknown
    if (typeof merge === 'string') {
      // One space stands between the two; a space inside a token is written Ġ.
      const space = merge.indexOf(' ')
      left = space < 0 ? undefined : merge.slice(0, space)
      right = merge.slice(space + 1)
    } else if (Array.isArray(merge) && merge.length === 2) {
      ;[left, right] = merge
    }
    if (typeof left !== 'string' || typeof right !== 'string') {
      throw faulty(
        mergesFile,
        `${mergesFile}: merge ${rank} is ${JSON.stringify(merge)}, not a pair of tokens.`,
      )
    }
    const leftId = vocab.get(left)
    const rightId = vocab.get(right)
    const mergedId = vocab.get(left + right)
    if (leftId === undefined || rightId === undefined || mergedId === undefined) {
      const missing = [left, right, left + right].find((token) => !vocab.has(token))
      throw faulty(
        mergesFile,
        `${mergesFile}: merge ${rank} joins ${JSON.stringify(left)} and ${JSON.stringify(right)}, ` +
          `but the vocabulary has no token ${JSON.stringify(missing)}. ` +
          'Vocabulary and merges must come from the same model.',
      )
    }
    table.add(leftId, rightId, rank, mergedId)
    if (rank % 1024 === 1023) yield
  }
  return table
}

function* tokensById(
  data: TokenizerData,
): Generator<void, { tokens: (string | undefined)[]; special: Uint8Array }, void> {
  const tokens: (string | undefined)[] = []
  const put = (id: number, token: string) => {
    while (tokens.length < id) tokens.push(undefined)
    tokens[id] = token
  }
  let count = 0
  for (const [token, id] of data.vocab) {
    put(id, token)
    if (++count % 4096 === 0) yield
  }
  for (const { content, id } of data.addedTokens) put(id, content)
  const special = new Uint8Array(tokens.length)
  for (const token of data.addedTokens) special[token.id] = token.special ? 1 : 0
  return { tokens, special }
}

function* buildBytes(
  tokens: readonly (string | undefined)[],
  addedIds: ReadonlySet<number>,
): Generator<void, { bytes: Uint8Array; offsets: Int32Array }, void> {
  // A character of a token is 1 byte; where it is not in the byte alphabet, at most 3 of UTF-8.
  let bound = 0
  for (const token of tokens) bound += (token?.length ?? 0) * 3
  const bytes = Buffer.alloc(bound)
  const offsets = new Int32Array(tokens.length + 1)
  let length = 0
  for (const [id, token] of tokens.entries()) {
    if (token !== undefined) {
      const written = addedIds.has(id) ? -1 : tokenToBytes(token, bytes.subarray(length))
      length += written >= 0 ? written : bytes.write(token, length)
    }
    offsets[id + 1] = length
    if (id % 4096 === 4095) yield
  }
  return { bytes: Uint8Array.from(bytes.subarray(0, length)), offsets }
}
