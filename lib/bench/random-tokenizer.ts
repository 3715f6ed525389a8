/** A tokenizer of Qwen2's size and form whose words mean nothing: all bytes, their pairs, and some triples. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { packageRoot } from '../package-root.js'
import { bytesToToken } from '../tokenizer/byte-alphabet.js'

/** Of the Qwen2 family, before the added ones. */
export const BASE_TOKENS = 151643

/** Qwen2-VL's, from id {@link BASE_TOKENS} on. */
// prettier-ignore
export const ADDED_TOKENS = [
  '<|endoftext|>', '<|im_start|>', '<|im_end|>', '<|object_ref_start|>', '<|object_ref_end|>', '<|box_start|>', '<|box_end|>',
  '<|quad_start|>', '<|quad_end|>', '<|vision_start|>', '<|vision_end|>', '<|vision_pad|>', '<|image_pad|>', '<|video_pad|>',
] as const

/** The contents of its `tokenizer.json`. */
export async function randomTokenizer(): Promise<object> {
  // How text is cut, and how bytes are written, is the published one's, which the package's has.
  const file = join(packageRoot, 'models', 'qwen2-vl-tiny', 'tokenizer.json')
  const published = JSON.parse(await readFile(file, 'utf8')) as { model: object }
  const { vocabulary, merges } = makeMerges()
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false }
  return {
    ...published,
    added_tokens: ADDED_TOKENS.map((content, i) => ({
      ...{ id: BASE_TOKENS + i, content, ...flags, special: true },
    })),
    model: { ...published.model, vocab: vocabulary, merges },
  }
}

function makeMerges(): { vocabulary: Record<string, number>; merges: string[] } {
  const bytes = Array.from({ length: 256 }, (_, byte) => bytesToToken(Uint8Array.of(byte)))
  const vocabulary = new Map(bytes.map((letter, id) => [letter, id]))
  const merges: string[] = []
  const merge = (left: string, right: string) => {
    if (vocabulary.size === BASE_TOKENS || vocabulary.has(left + right)) return
    vocabulary.set(left + right, vocabulary.size)
    merges.push(`${left} ${right}`)
  }
  const pairs = bytes.flatMap((left) => bytes.map((right) => [left, right] as const))
  for (const [left, right] of pairs) merge(left, right)
  for (const third of bytes) {
    if (vocabulary.size === BASE_TOKENS) break
    for (const [left, right] of pairs) merge(left + right, third)
  }
  return { vocabulary: Object.fromEntries(vocabulary), merges }
}
