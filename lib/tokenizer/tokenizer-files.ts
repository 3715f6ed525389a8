/** Reads and checks the tokenizer files of a checkpoint. */
import { CheckpointError } from '../errors.js'
import { type Json, type JsonObject, JsonSyntaxError, type JsonVisitor, readJson } from './json.js'
import { MergeList } from './merge-list.js'
import { qwen2Pattern } from './pretokenizer.js'
import { TokenTable } from './token-table.js'
import type { TokenizerFiles } from './tokenizer.js'

/** A token that is found in the text itself, before anything else happens to it. */
export interface AddedToken {
  id: number
  content: string
  /** Left out by `skipSpecialTokens`. */
  special: boolean
  /** Looked for in the text after NFC, not before. */
  normalized: boolean
}

/** What the tokenizer is made of, whichever files it came from. */
export interface TokenizerData {
  /** The base tokens. */
  tokens: TokenTable
  merges: MergeList
  addedTokens: AddedToken[]
  /** The file with vocabulary and merges, for messages. */
  vocabFile: string
  mergesFile: string
}

/** Larger ids are not believed: the arrays by id would take all memory. */
const maxTokenId = 2 ** 21 - 1

/** Reads whichever of the two groups of files is given. */
export function* readTokenizerFiles(files: TokenizerFiles): Generator<void, TokenizerData, void> {
  const config =
    files.tokenizerConfigJson === undefined
      ? undefined
      : yield* readObject(files.tokenizerConfigJson, 'tokenizer_config.json')
  if (files.tokenizerJson !== undefined) {
    return yield* fromTokenizerJson(files.tokenizerJson, config)
  }
  if (files.vocabJson !== undefined && files.mergesTxt !== undefined) {
    return yield* fromVocabAndMerges(files.vocabJson, files.mergesTxt, config)
  }
  throw faulty(
    'tokenizer.json',
    'The checkpoint has neither tokenizer.json nor both of vocab.json and merges.txt. ' +
      'Copy the tokenizer files of the model it was made from.',
  )
}

function* fromTokenizerJson(
  text: string,
  config: JsonObject | undefined,
): Generator<void, TokenizerData, void> {
  const file = 'tokenizer.json'
  const tokens = new TokenTable()
  const merges = new MergeList()
  const root = yield* readObject(text, file, {
    'model.vocab': vocabReader(tokens, file),
    'model.merges': mergesReader(merges, file),
  })
  checkPipeline(root)
  const model = asObject(root.get('model'), file, 'model')
  asObject(model.get('vocab'), file, 'model.vocab')
  if (!Array.isArray(model.get('merges'))) throw faulty(file, `${file} has no list model.merges.`)
  checkNotEmpty(tokens, file)
  const addedTokens = addedTokensOfList(root.get('added_tokens'), file)
  if (config) addConfigTokens(addedTokens, addedTokensOfConfig(config))
  checkAddedTokens(addedTokens, tokens, file)
  return { tokens, merges, addedTokens, vocabFile: file, mergesFile: file }
}

function* fromVocabAndMerges(
  vocabJson: string,
  mergesTxt: string,
  config: JsonObject | undefined,
): Generator<void, TokenizerData, void> {
  const tokens = new TokenTable()
  yield* readObject(vocabJson, 'vocab.json', { '': vocabReader(tokens, 'vocab.json') })
  checkNotEmpty(tokens, 'vocab.json')
  const merges = new MergeList()
  const addMerge = mergesReader(merges, 'merges.txt')
  for (let start = 0; start < mergesTxt.length;) {
    const newline = mergesTxt.indexOf('\n', start)
    const end = newline < 0 ? mergesTxt.length : newline
    const line = mergesTxt.slice(start, mergesTxt[end - 1] === '\r' ? end - 1 : end)
    // The version stands in the first line. A merge may begin with #, so no other line is a comment.
    if (line !== '' && !(start === 0 && /^\uFEFF?#version/.test(line))) addMerge(merges.size, line)
    start = end + 1
    if (merges.size % 1024 === 0) yield
  }
  if (!config) {
    throw faulty(
      'tokenizer_config.json',
      'tokenizer_config.json is missing. With vocab.json and merges.txt it is needed for the ' +
        'special tokens; copy it from the model that the checkpoint was made from.',
    )
  }
  const addedTokens = addedTokensOfConfig(config)
  if (addedTokens.length === 0) {
    throw faulty(
      'tokenizer_config.json',
      'tokenizer_config.json has no added_tokens_decoder, so the special tokens are not known. ' +
        'Copy the file, or tokenizer.json, from the model that the checkpoint was made from.',
    )
  }
  checkAddedTokens(addedTokens, tokens, 'tokenizer_config.json')
  return { tokens, merges, addedTokens, vocabFile: 'vocab.json', mergesFile: 'merges.txt' }
}

function* readObject(
  text: string,
  file: string,
  visitors: Record<string, JsonVisitor> = {},
): Generator<void, JsonObject, void> {
  try {
    const value = yield* readJson(text, visitors)
    if (value instanceof Map) return value
    throw faulty(file, `${file} is not a JSON object. ${copyAgain}`)
  } catch (error) {
    if (!(error instanceof JsonSyntaxError)) throw error
    throw faulty(file, `${file} is not valid JSON: it ${error.message}. ${copyAgain}`, error)
  }
}

/** Checks that the pipeline of tokenizer.json is the one that is built in here. */
function checkPipeline(root: JsonObject): void {
  const file = 'tokenizer.json'
  const expect = (what: string, found: Json | undefined, wanted: string, isRight: boolean) => {
    if (isRight) return
    throw faulty(
      file,
      `${file}: ${what} is ${shown(found)}, but the tokenizer of Qwen2-VL has ${wanted}. ` +
        'Only tokenizers of the Qwen2 family can be used.',
      undefined,
      { part: what },
    )
  }
  const model = asObject(root.get('model'), file, 'model')
  const modelType = model.get('type')
  // Old files leave the type out.
  expect('model.type', modelType, '"BPE"', modelType === 'BPE' || modelType === undefined)
  const normalizer = root.get('normalizer')
  expect('normalizer', normalizer, '{"type":"NFC"}', typeOf(normalizer) === 'NFC')
  const preTokenizer = root.get('pre_tokenizer')
  expect('pre_tokenizer', preTokenizer, 'Split and ByteLevel', isQwen2PreTokenizer(preTokenizer))
  const decoder = root.get('decoder')
  expect('decoder', decoder, '{"type":"ByteLevel"}', typeOf(decoder) === 'ByteLevel')
  const postProcessor = root.get('post_processor')
  const addsNothing = postProcessor == null || typeOf(postProcessor) === 'ByteLevel'
  expect('post_processor', postProcessor, '{"type":"ByteLevel"}', addsNothing)
  for (const key of ['dropout', 'unk_token', 'continuing_subword_prefix', 'end_of_word_suffix']) {
    const value = model.get(key)
    expect(`model.${key}`, value, 'none', value == null || value === '')
  }
  for (const key of ['fuse_unk', 'byte_fallback', 'ignore_merges']) {
    const value = model.get(key)
    expect(`model.${key}`, value, 'false', value == null || value === false)
  }
}

function isQwen2PreTokenizer(value: Json | undefined): boolean {
  if (!(value instanceof Map) || value.get('type') !== 'Sequence') return false
  const parts = value.get('pretokenizers')
  if (!Array.isArray(parts) || parts.length !== 2) return false
  const [split, byteLevel] = parts
  if (!(split instanceof Map) || !(byteLevel instanceof Map)) return false
  const pattern = split.get('pattern')
  return (
    split.get('type') === 'Split' &&
    pattern instanceof Map &&
    pattern.get('Regex') === qwen2Pattern &&
    split.get('behavior') === 'Isolated' &&
    split.get('invert') !== true &&
    byteLevel.get('type') === 'ByteLevel' &&
    byteLevel.get('add_prefix_space') === false &&
    byteLevel.get('use_regex') === false
  )
}

function vocabReader(tokens: TokenTable, file: string): JsonVisitor {
  return (key, id) => {
    const token = String(key)
    checkId(id, token, file)
    if (tokens.has(id)) {
      throw faulty(file, `${file} gives the id ${id} to two tokens, one of them ${quote(token)}.`)
    }
    if (!tokens.add(token, id)) throw faulty(file, `${file} has the token ${quote(token)} twice.`)
  }
}

/** Merges are pairs, or strings with a space between the two; a space inside a token is written Ġ. */
function mergesReader(merges: MergeList, file: string): JsonVisitor {
  return (rank, merge) => {
    const pair = typeof merge === 'string' ? splitOnce(merge) : merge
    const [left, right, ...more] = Array.isArray(pair) ? pair : []
    if (typeof left !== 'string' || typeof right !== 'string' || more.length > 0) {
      throw faulty(file, `${file}: merge ${rank} is ${shown(merge)}, not a pair of tokens.`)
    }
    if (!merges.add(left, right)) {
      throw faulty(
        file,
        `${file}: merge ${rank} is ${shown(merge)}, which has a character that stands for no byte. ` +
          'It does not belong to a byte-level vocabulary.',
      )
    }
  }
}

function splitOnce(merge: string): string[] {
  const space = merge.indexOf(' ')
  return space < 0 ? [merge] : [merge.slice(0, space), merge.slice(space + 1)]
}

function checkNotEmpty(tokens: TokenTable, file: string): void {
  if (tokens.size === 0) throw faulty(file, `${file}: the vocabulary is empty. ${copyAgain}`)
}

function checkId(id: Json | undefined, token: string, file: string): asserts id is number {
  if (typeof id === 'number' && Number.isInteger(id) && id >= 0 && id <= maxTokenId) return
  throw faulty(
    file,
    `${file}: the id of the token ${quote(token)} is ${shown(id)}, ` +
      `which is not a whole number from 0 to ${maxTokenId}. ${copyAgain}`,
  )
}

/** `added_tokens` of tokenizer.json. */
function addedTokensOfList(list: Json | undefined, file: string): AddedToken[] {
  if (list == null) return []
  if (!Array.isArray(list)) throw faulty(file, `${file}: added_tokens is not a list.`)
  return list.map((entry, index) => {
    const object = asObject(entry, file, `added_tokens[${index}]`)
    return addedToken(object, object.get('id'), file, `added_tokens[${index}]`)
  })
}

/** `added_tokens_decoder` of tokenizer_config.json, whose keys are the ids. */
function addedTokensOfConfig(config: JsonObject): AddedToken[] {
  const file = 'tokenizer_config.json'
  const decoder = config.get('added_tokens_decoder')
  if (decoder == null) return []
  return [...asObject(decoder, file, 'added_tokens_decoder')].map(([key, entry]) => {
    const path = `added_tokens_decoder[${quote(key)}]`
    const id = /^\d+$/.test(key) ? Number(key) : key
    return addedToken(asObject(entry, file, path), id, file, path)
  })
}

function addedToken(
  object: JsonObject,
  id: Json | undefined,
  file: string,
  path: string,
): AddedToken {
  const content = object.get('content')
  if (typeof content !== 'string' || content === '') {
    throw faulty(file, `${file}: ${path} has no content. ${copyAgain}`)
  }
  checkId(id, content, file)
  for (const flag of ['single_word', 'lstrip', 'rstrip']) {
    if (object.get(flag) === true) {
      throw faulty(
        file,
        `${file}: the added token ${quote(content)} has ${flag}, which no Qwen2-VL token has ` +
          'and which is not supported. Set it to false if the model does not need it.',
      )
    }
  }
  const special = object.get('special') === true
  // Left out, it means what the reference's constructor does: normalised unless special.
  const normalized = object.get('normalized') ?? !special
  return { id, content, special, normalized: normalized === true }
}

/** Adds the tokens that only tokenizer_config.json has, as the reference does. */
function addConfigTokens(tokens: AddedToken[], fromConfig: readonly AddedToken[]): void {
  const known = new Map(tokens.map((token) => [token.content, token]))
  for (const token of fromConfig) {
    const other = known.get(token.content)
    if (!other) tokens.push(token)
    else if (other.id !== token.id) {
      throw faulty(
        'tokenizer_config.json',
        `tokenizer_config.json gives ${quote(token.content)} the id ${token.id}, but tokenizer.json ` +
          `gives it ${other.id}. Take both files from the same model.`,
      )
    }
  }
}

function checkAddedTokens(added: readonly AddedToken[], tokens: TokenTable, file: string): void {
  const contentById = new Map<number, string>()
  const contents = new Set<string>()
  for (const { id, content } of added) {
    const other = contentById.get(id) ?? tokens.idToToken(id) ?? content
    if (contentById.has(id) || other !== content) {
      throw faulty(
        file,
        `${file} gives the id ${id} to both ${quote(other)} and ${quote(content)}.`,
      )
    }
    if (contents.has(content)) throw faulty(file, `${file} adds ${quote(content)} twice.`)
    contentById.set(id, content)
    contents.add(content)
  }
}

function asObject(value: Json | undefined, file: string, path: string): JsonObject {
  if (value instanceof Map) return value
  throw faulty(file, `${file}: ${path} is ${shown(value)}, not an object. ${copyAgain}`)
}

function typeOf(value: Json | undefined): Json | undefined {
  return value instanceof Map ? value.get('type') : undefined
}

/** A value of a file, short enough for a message. */
function shown(value: Json | undefined): string {
  if (value === undefined) return 'missing'
  const text = JSON.stringify(value, (_key, inner: Json): unknown =>
    inner instanceof Map ? Object.fromEntries(inner) : inner,
  )
  return text.length > 300 ? `${text.slice(0, 300)}…` : text
}

function quote(token: string): string {
  return JSON.stringify(token.length > 80 ? `${token.slice(0, 80)}…` : token)
}

/** The error of everything that is wrong with a tokenizer's files. */
export function faulty(
  file: string,
  message: string,
  cause?: unknown,
  details: Record<string, unknown> = {},
): CheckpointError {
  return new CheckpointError('ERR_CHECKPOINT_TOKENIZER', message, {
    details: { file, ...details },
    ...(cause !== undefined && { cause }),
  })
}

const copyAgain = 'Copy the file again from where the checkpoint came from.'
