/** Which files of a repository a model needs: all of them lie in its root. */
import { isJsonObject } from '../checkpoint/files.js'
import { indexOf, weightsName } from '../checkpoint/weight-files.js'

const small = new Set([
  'config.json',
  'quantize_config.json',
  'quant_config.json',
  'generation_config.json',
  'preprocessor_config.json',
  'video_preprocessor_config.json',
  'processor_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'vocab.json',
  'merges.txt',
  'added_tokens.json',
  'special_tokens_map.json',
  'chat_template.json',
  'chat_template.jinja',
])

/** The name of the file that holds the weights, and that of the index of their shards. */
function namesIn(files: readonly { name: string }[]): { whole: string; index: string } {
  const whole = weightsName(files.map(({ name }) => name))
  return { whole, index: indexOf(whole) }
}

/** Names the shards of the weights, where there are shards. */
export function indexFileOf(files: readonly { name: string }[]): string {
  return namesIn(files).index
}

/** Everything but the weights. */
export function neededSmallFiles<File extends { name: string }>(files: readonly File[]): File[] {
  const { whole, index } = namesIn(files)
  const isWhole = files.some(({ name }) => name === whole)
  return files.filter(({ name }) => small.has(name) || (!isWhole && name === index))
}

/**
 * The weights: one file, else the shards that the index names.
 *
 * @param index the parsed index; before it is there, what looks like a shard.
 * @returns the files, and the names of those that the repository lacks.
 */
export function neededWeights<File extends { name: string }>(
  files: readonly File[],
  index?: unknown,
): { files: File[]; missing: string[] } {
  const whole = files.find(({ name }) => name === namesIn(files).whole)
  if (whole) return { files: [whole], missing: [] }
  if (index === undefined) {
    return {
      files: files.filter(({ name }) => /^(?:gptq_)?model-.*\.safetensors$/.test(name)),
      missing: [],
    }
  }
  const map = isJsonObject(index) ? index['weight_map'] : undefined
  const names = new Set<unknown>(isJsonObject(map) ? Object.values(map) : [])
  const shards = files.filter(({ name }) => name.endsWith('.safetensors') && names.has(name))
  const there = new Set<unknown>(shards.map(({ name }) => name))
  return { files: shards, missing: [...names].filter((name) => !there.has(name)).map(String) }
}
