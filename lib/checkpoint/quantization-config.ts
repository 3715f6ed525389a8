/** How a checkpoint that is published quantised (AWQ, GPTQ) stores its matrices. */
import { UnsupportedModelError } from '../errors.js'
import type { NativeStoredQuantization } from '../native.js'
import { Fields } from './fields.js'
import { describeJson, isJsonObject, type JsonObject } from './files.js'

/** An object that says so, and where it stands, for messages. */
export interface QuantizationSource {
  json: JsonObject
  file: string
  /** Within the file; '' for its root. */
  path: string
  /** What it is where it does not say. */
  method?: 'awq' | 'gptq'
}

/** The files that older quantisers write beside `config.json`. */
const files = [
  ['quantize_config.json', 'gptq'],
  ['quant_config.json', 'awq'],
] as const

/**
 * What an older quantiser wrote beside a `config.json` that does not say it.
 *
 * @param read a JSON file of the folder; undefined where there is none.
 */
export async function readQuantizerFile(
  folder: string,
  read: (name: string) => Promise<JsonObject | undefined>,
): Promise<QuantizationSource | undefined> {
  for (const [name, method] of files) {
    const json = await read(name)
    if (json !== undefined) return { json, file: `${folder}/${name}`, path: '', method }
  }
  return undefined
}

/** `quantization_config` of `config.json`, in either layout. */
export function findQuantizationConfig(
  fields: Fields,
  file: string,
): QuantizationSource | undefined {
  fields.optionalObject('quantization_config') // an error where it is something else
  const { value, path } = fields.get('quantization_config')
  return value === undefined ? undefined : { json: value as JsonObject, file, path }
}

/** What AutoRound calls itself; it packs codes as AWQ or GPTQ do. */
const AUTO_ROUND = ['auto-round', 'intel/auto-round']

/** From `auto_round:auto_gptq` and the like. */
function packingOfAutoRound(fields: Fields): 'awq' | 'gptq' | undefined {
  const packing = fields.optionalString('packing_format') ?? fields.optionalString('backend') ?? ''
  if (packing.includes('awq')) return 'awq'
  return packing.includes('gptq') ? 'gptq' : undefined
}

/** How words and zero points are packed: each quantiser has a key of its own for it. */
function layoutOf(fields: Fields, isAwq: boolean): string {
  const keys = isAwq ? ['version', 'checkpoint_format', 'format'] : ['checkpoint_format', 'format']
  for (const key of keys) {
    const layout = fields.optionalString(key)
    if (layout !== undefined) return layout.toLowerCase()
  }
  return isAwq ? 'gemm' : 'gptq'
}

/** Whether GPTQ took the inputs by their activations and grouped them in that order. */
function ordersInputs(fields: Fields): boolean {
  const byActivation = fields.optionalBoolean('desc_act') ?? false
  // Static groups were made before, in the order of the inputs.
  return byActivation && fields.optionalBoolean('static_groups') !== true
}

/** The first of GPTQModel's rules ("+:" or "-:" and a regular expression) that changes the sizes of some matrices. */
function findException(rules: unknown, bits: unknown, groupSize: unknown): string | undefined {
  if (!isJsonObject(rules)) return undefined
  const changes = (rule: JsonObject) =>
    (rule['bits'] ?? bits) !== bits || (rule['group_size'] ?? groupSize) !== groupSize
  const found = Object.entries(rules).find(
    // "-:" leaves matrices as they are, which the names of their tensors say.
    ([pattern, rule]) => !pattern.startsWith('-:') && isJsonObject(rule) && changes(rule),
  )
  return found && describeJson(found[0])
}

/**
 * Checks that matrices stored like this can be read. Which they are, the names of the tensors say.
 *
 * @throws UnsupportedModelError that names the method, the bits or the groups that cannot.
 */
export function parseQuantizationConfig(source: QuantizationSource): NativeStoredQuantization {
  const { json, file, path } = source
  const fields = new Fields(file, json, path)
  const at = (key: string) => fields.get(key)
  const name = fields.optionalString('quant_method')?.toLowerCase() ?? source.method ?? 'unknown'
  const refuse = (what: string) =>
    new UnsupportedModelError(
      `${file} says that the weights are quantised in a way that this version does not read: ${what}. ` +
        'It reads AWQ (4 bits, version "gemm") and GPTQ (4 or 8 bits) in groups of 32, 64, 128 or all inputs, ' +
        'and bf16, fp16 and fp32 weights; use such a checkpoint of the model.',
      { details: { architecture: 'Qwen2VLForConditionalGeneration', quantization: name, file } },
    )
  const method = AUTO_ROUND.includes(name) ? packingOfAutoRound(fields) : name
  if (method !== 'awq' && method !== 'gptq') throw refuse(`quant_method "${name}"`)
  const isAwq = method === 'awq'

  const bitsOf = at('bits').value ?? at('w_bit').value ?? (isAwq ? 4 : undefined)
  if (bitsOf !== 4 && (isAwq || bitsOf !== 8)) {
    throw refuse(`quant_method "${method}" with bits ${describeJson(bitsOf)}`)
  }
  const group = at('group_size').value ?? at('q_group_size').value ?? 128
  if (group !== 32 && group !== 64 && group !== 128 && group !== -1) {
    throw refuse(`quant_method "${method}" with group_size ${describeJson(group)}`)
  }
  const format = layoutOf(fields, isAwq)
  if (isAwq && format !== 'gemm') throw refuse(`AWQ of version "${format}"`)
  if (!isAwq && format !== 'gptq' && format !== 'gptq_v2') {
    throw refuse(`GPTQ with checkpoint_format "${format}"`)
  }
  if (fields.optionalBoolean('is_marlin_format') === true) throw refuse('GPTQ in the Marlin layout')
  const exception = findException(at('dynamic').value, bitsOf, group)
  if (exception !== undefined) throw refuse(`"dynamic" with other sizes for ${exception}`)
  return {
    method,
    bits: bitsOf,
    groupSize: group === -1 ? 0 : group,
    zerosLessOne: !isAwq && format !== 'gptq_v2',
    needsGroupIndex: !isAwq && group !== -1 && ordersInputs(fields),
  }
}
