/** Which safetensors files hold a checkpoint's weights. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { CheckpointError } from '../errors.js'
import {
  describeJson,
  isJsonObject,
  MAX_INDEX_BYTES,
  readJsonFile,
  refuseLfsPointer,
  regularFileSize,
} from './files.js'

const SINGLE_FILE = 'model.safetensors'
/** What AutoGPTQ calls the single file. */
const AUTO_GPTQ_FILE = /^gptq_model-\d+bit-(?:-1|\d+)g\.safetensors$/
/** Far more shards than any checkpoint has. */
const MAX_SHARDS = 10_000

/** The index of the shards that a checkpoint has instead of the single file of this name. */
export const indexOf = (name: string) => `${name}.index.json`

/**
 * What the single file of a folder is called, or would be if there were no shards: `model.safetensors`, or AutoGPTQ's
 * name where there is only that.
 *
 * @param names of the files in the folder.
 */
export function weightsName(names: readonly string[]): string {
  if (names.includes(SINGLE_FILE) || names.includes(indexOf(SINGLE_FILE))) return SINGLE_FILE
  const [found, ...others] = autoGptqNames(names)
  return found === undefined || others.length > 0 ? SINGLE_FILE : found
}

function autoGptqNames(names: readonly string[]): string[] {
  const single = names.map((name) => name.replace(/\.index\.json$/, ''))
  return [...new Set(single.filter((name) => AUTO_GPTQ_FILE.test(name)))].sort()
}

/**
 * Absolute paths of the weight files: `model.safetensors`, else the shards that
 * `model.safetensors.index.json` names, in their order; or the same under the name that AutoGPTQ
 * gives. Only their presence is checked.
 */
export async function findWeightFiles(folder: string): Promise<string[]> {
  const name = weightsName(await readdir(folder))
  const single = join(folder, name)
  const size = await regularFileSize(single)
  if (size !== undefined) {
    await refuseLfsPointer(single, size)
    return [single]
  }
  const index = await readJsonFile(folder, indexOf(name), MAX_INDEX_BYTES)
  if (index === undefined) throw await noWeights(folder)
  const shards = shardNames(index['weight_map'], join(folder, indexOf(name)))
  const files = shards.map((name) => join(folder, name))
  const missing: string[] = []
  for (const [i, file] of files.entries()) {
    const bytes = await regularFileSize(file)
    if (bytes === undefined) missing.push(shards[i] ?? file)
    else await refuseLfsPointer(file, bytes)
  }
  if (missing.length > 0) throw missingShards(folder, missing, shards.length, indexOf(name))
  return files
}

/** The distinct file names of a `weight_map`, sorted; each must be a plain name in the folder. */
function shardNames(weightMap: unknown, indexFile: string): string[] {
  if (!isJsonObject(weightMap) || Object.keys(weightMap).length === 0) {
    throw malformedIndex(
      indexFile,
      `weight_map is ${describeJson(weightMap)}; expected an object from tensor names to file names`,
    )
  }
  const names = new Set<string>()
  for (const [tensor, name] of Object.entries(weightMap)) {
    // A name with a separator could lead out of the folder; no exporter writes one.
    if (typeof name !== 'string' || !/^[^/\\:\0]+\.safetensors$/.test(name)) {
      throw malformedIndex(
        indexFile,
        `tensor ${describeJson(tensor)} is said to be in ${describeJson(name)}; expected the ` +
          'name of a .safetensors file in the same folder, without a path',
      )
    }
    names.add(name)
  }
  if (names.size > MAX_SHARDS) {
    throw malformedIndex(indexFile, `it names ${names.size} files; at most ${MAX_SHARDS} are read`)
  }
  return [...names].sort()
}

function malformedIndex(file: string, what: string): CheckpointError {
  return new CheckpointError(
    'ERR_CHECKPOINT_INDEX',
    `${file} is malformed: ${what}. Download it again.`,
    { details: { file } },
  )
}

function missingShards(
  folder: string,
  missing: string[],
  total: number,
  indexFile: string,
): CheckpointError {
  const shown = missing.slice(0, 5).join(', ') + (missing.length > 5 ? ', ...' : '')
  return new CheckpointError(
    'ERR_CHECKPOINT_MISSING_SHARD',
    `${missing.length} of the ${total} weight files that ${indexFile} names are missing in ` +
      `${folder}: ${shown}. Complete the download.`,
    { details: { file: join(folder, missing[0] ?? ''), missing } },
  )
}

/** Says what is there instead, where that explains the mistake. */
async function noWeights(folder: string): Promise<CheckpointError> {
  const names = await readdir(folder)
  const find = (pattern: RegExp) => names.find((name) => pattern.test(name))
  const adapter = find(/^adapter_(config\.json|model\.safetensors)$/)
  const pickled = find(/^pytorch_model.*\.bin$|\.(pt|pth)$/)
  const gguf = find(/\.gguf$/)
  const several = autoGptqNames(names)
  let hint = `Expected ${SINGLE_FILE}, or ${indexOf(SINGLE_FILE)} with its shards. Complete the download.`
  if (several.length > 1) {
    hint = `It holds ${several.join(' and ')}, of which only one can be meant: remove the others.`
  } else if (adapter !== undefined) {
    hint = `It holds an adapter (${adapter}), which is only a difference to a model. Merge it into its base model and save that.`
  } else if (pickled !== undefined) {
    hint = `It holds ${pickled}, but only safetensors files are read. Save the model as safetensors (in Python: model.save_pretrained(folder, safe_serialization=True)).`
  } else if (gguf !== undefined) {
    hint = `It holds ${gguf}, but only safetensors files are read. Use the checkpoint as published.`
  }
  return new CheckpointError('ERR_CHECKPOINT_NO_WEIGHTS', `${folder} has no weights. ${hint}`, {
    details: { file: join(folder, SINGLE_FILE) },
  })
}
