/**
 * Checkpoints with random weights in the published layout, for benchmarks: sizes, file formats and the size
 * of the vocabulary are real, answers are noise.
 */
import { existsSync } from 'node:fs'
import { mkdir, readFile, truncate, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import {
  groupIndex,
  quantizationConfig,
  quantizedTensors,
  type LinearLayer,
} from '../checkpoint/quantized-layout.js'
import { bytesOf, writeSafetensors } from '../checkpoint/safetensors-writer.js'
import type { NativeStoredQuantization } from '../native.js'
import { packageRoot } from '../package-root.js'
import { ADDED_TOKENS, BASE_TOKENS, randomTokenizer } from './random-tokenizer.js'

interface Preset {
  hiddenSize: number
  layers: number
  heads: number
  kvHeads: number
  intermediateSize: number
  vocabSize: number
  tied: boolean
  visionDepth: number
  visionWidth: number
  visionHeads: number
}

const tower = { visionDepth: 32, visionWidth: 1280, visionHeads: 16 }
// prettier-ignore
const sizes = {
  '2b': { hiddenSize: 1536, layers: 28, heads: 12, kvHeads: 2, intermediateSize: 8960, vocabSize: 151936, tied: true, ...tower },
  '7b': { hiddenSize: 3584, layers: 28, heads: 28, kvHeads: 4, intermediateSize: 18944, vocabSize: 152064, tied: false, ...tower },
  // The width that the quantised ones have; the others have 29568.
  '72b': { hiddenSize: 8192, layers: 80, heads: 64, kvHeads: 8, intermediateSize: 29696, vocabSize: 152064, tied: false, ...tower },
} satisfies Record<string, Preset>

/** As published: groups of 128, inputs in order. */
const stored = { groupSize: 128, needsGroupIndex: false } as const
const formats = {
  awq: { method: 'awq', bits: 4, zerosLessOne: false, ...stored },
  'gptq-int4': { method: 'gptq', bits: 4, zerosLessOne: true, ...stored },
  'gptq-int8': { method: 'gptq', bits: 8, zerosLessOne: true, ...stored },
} satisfies Record<string, NativeStoredQuantization>

type Size = keyof typeof sizes
type Format = keyof typeof formats

/** Sizes of published models, in bf16 or quantised: `7b`, `2b-awq`. */
export type PresetName = Size | `${Size}-${Format}`

/** Those that a benchmark can be run with; the largest are good for their headers alone. */
export const presetNames = (['2b', '7b'] as const).flatMap((size): PresetName[] => [
  size,
  `${size}-awq`,
  `${size}-gptq-int4`,
  `${size}-gptq-int8`,
])

/** Written last: a folder without it is not complete. */
const COMPLETE = '.complete'

/** Where the checkpoint of a preset is kept: in the user's cache folder. */
export function randomCheckpointFolder(preset: PresetName): string {
  const caches = process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache')
  return join(caches, 'qwen2-vl', 'bench', `qwen2-vl-${preset}-random`)
}

/** Makes the checkpoint unless it is there; calls `onBegin` before it does. */
export async function ensureRandomCheckpoint(
  folder: string,
  name: PresetName,
  onBegin: () => void,
): Promise<void> {
  if (existsSync(join(folder, COMPLETE))) return
  onBegin()
  const { preset, format } = read(name)
  await writeSmallFiles(folder, preset, format)
  await writeWeights(folder, preset, format)
  await writeFile(join(folder, COMPLETE), '')
}

/**
 * A checkpoint of which only the headers are there: its files have their lengths, but the disk keeps nothing of the
 * weights, which are zeros.
 */
export async function writeSparseCheckpoint(folder: string, name: PresetName): Promise<void> {
  const { preset, format } = read(name)
  await writeSmallFiles(folder, preset, format)
  const groups = tensors(preset, format).map((tensor) => ({ tensors: [tensor] }))
  for (const { file, size } of await writeSafetensors(folder, groups, () => [])) {
    await truncate(join(folder, file), size)
  }
}

/** Bytes of the weights of a preset. */
export function presetBytes(name: PresetName): number {
  const { preset, format } = read(name)
  return tensors(preset, format).reduce((sum, tensor) => sum + bytesOf(tensor), 0)
}

function read(name: PresetName): { preset: Preset; format: NativeStoredQuantization | undefined } {
  const [size, ...format] = name.split('-')
  return { preset: sizes[size as Size], format: formats[format.join('-') as Format] }
}

type TensorKind = 'matrix' | 'bias' | 'norm' | 'qweight' | 'qzeros' | 'scales' | 'g_idx'

interface Tensor {
  name: string
  dtype: string
  shape: readonly number[]
  kind: TensorKind
  /** Of g_idx. */
  layer?: LinearLayer
}

/** All tensors of the published layout, in file order. */
function tensors(p: Preset, format: NativeStoredQuantization | undefined): Tensor[] {
  const list: Tensor[] = []
  const dtype = format ? 'F16' : 'BF16'
  const add = (kind: TensorKind, name: string, ...shape: number[]) =>
    list.push({ name, dtype, shape, kind })
  const matrix = (name: string, ...shape: number[]) => add('matrix', name, ...shape)
  const bias = (name: string, size: number) => add('bias', name, size)
  const norm = (name: string, size: number) => add('norm', name, size)
  const linear = (name: string, out: number, input: number) => {
    matrix(`${name}.weight`, out, input)
    bias(`${name}.bias`, out)
  }
  /** One of the matrices that may be quantised. */
  const decoderMatrix = (module: string, outFeatures: number, inFeatures: number) => {
    if (format === undefined) return void matrix(`${module}.weight`, outFeatures, inFeatures)
    const layer = { module, outFeatures, inFeatures }
    for (const tensor of quantizedTensors(layer, format)) {
      const kind = tensor.name.slice(module.length + 1) as TensorKind
      list.push({ ...tensor, kind, layer })
    }
  }
  const layerNorm = (name: string, size: number) => {
    norm(`${name}.weight`, size)
    bias(`${name}.bias`, size)
  }
  const E = p.visionWidth
  matrix('visual.patch_embed.proj.weight', E, 3, 2, 14, 14)
  for (let i = 0; i < p.visionDepth; ++i) {
    const block = `visual.blocks.${i}`
    layerNorm(`${block}.norm1`, E)
    layerNorm(`${block}.norm2`, E)
    linear(`${block}.attn.qkv`, 3 * E, E)
    linear(`${block}.attn.proj`, E, E)
    linear(`${block}.mlp.fc1`, 4 * E, E)
    linear(`${block}.mlp.fc2`, E, 4 * E)
  }
  layerNorm('visual.merger.ln_q', E)
  linear('visual.merger.mlp.0', 4 * E, 4 * E)
  linear('visual.merger.mlp.2', p.hiddenSize, 4 * E)

  const kvSize = (p.hiddenSize / p.heads) * p.kvHeads
  matrix('model.embed_tokens.weight', p.vocabSize, p.hiddenSize)
  for (let i = 0; i < p.layers; ++i) {
    const layer = `model.layers.${i}`
    norm(`${layer}.input_layernorm.weight`, p.hiddenSize)
    norm(`${layer}.post_attention_layernorm.weight`, p.hiddenSize)
    decoderMatrix(`${layer}.self_attn.q_proj`, p.hiddenSize, p.hiddenSize)
    bias(`${layer}.self_attn.q_proj.bias`, p.hiddenSize)
    decoderMatrix(`${layer}.self_attn.k_proj`, kvSize, p.hiddenSize)
    bias(`${layer}.self_attn.k_proj.bias`, kvSize)
    decoderMatrix(`${layer}.self_attn.v_proj`, kvSize, p.hiddenSize)
    bias(`${layer}.self_attn.v_proj.bias`, kvSize)
    decoderMatrix(`${layer}.self_attn.o_proj`, p.hiddenSize, p.hiddenSize)
    decoderMatrix(`${layer}.mlp.gate_proj`, p.intermediateSize, p.hiddenSize)
    decoderMatrix(`${layer}.mlp.up_proj`, p.intermediateSize, p.hiddenSize)
    decoderMatrix(`${layer}.mlp.down_proj`, p.hiddenSize, p.intermediateSize)
  }
  norm('model.norm.weight', p.hiddenSize)
  if (!p.tied) matrix('lm_head.weight', p.vocabSize, p.hiddenSize)
  return list
}

/** 65,536 values of 16 bits; a tensor draws from them by a 16-bit generator. */
type Samples = Record<Exclude<TensorKind, 'g_idx'>, Uint16Array>

function makeSamples(format: NativeStoredQuantization | undefined): Samples {
  const encode = format ? toF16 : toBf16
  const normal = (mean: number, deviation: number) => normalSamples(mean, deviation, encode)
  const draw = (value: (random: number) => number) => {
    const random = generator(2)
    return Uint16Array.from({ length: 65536 }, () => value(random()))
  }
  const isAwq = format?.method === 'awq'
  // Codes are spread evenly; with this scale weights have the deviation of the others.
  const scale = 0.02 / (format?.bits === 8 ? 74 : 4.6)
  return {
    matrix: normal(0, 0.02),
    bias: normal(0, 0.02),
    norm: normal(1, 0.05),
    qweight: draw((random) => random >>> 16),
    // AWQ: four zero points of 7 to 9. GPTQ: the middle, less one.
    qzeros: draw((random) => (isAwq ? fourOf7To9(random) : format?.bits === 8 ? 0x7f7f : 0x7777)),
    scales: normal(scale, scale / 10),
  }
}

function fourOf7To9(random: number): number {
  let word = 0
  for (let i = 0; i < 4; ++i) word |= (7 + ((random >>> (8 * i)) % 3)) << (4 * i)
  return word
}

/** Of N(mean, deviation). */
function normalSamples(
  mean: number,
  deviation: number,
  encode: (value: number) => number,
): Uint16Array {
  const random = generator(1)
  return Uint16Array.from({ length: 65536 }, () => {
    const u = (random() + 1) / 4294967297
    const v = random() / 4294967296
    return encode(mean + deviation * Math.sqrt(-2 * Math.log(u)) * Math.cos(2 * Math.PI * v))
  })
}

const float = new Float32Array(1)
const bits = new Uint32Array(float.buffer)

function toBf16(value: number): number {
  float[0] = value
  return ((bits[0] as number) + 0x8000) >>> 16
}

/** Of numbers that are well within its range. */
function toF16(value: number): number {
  const sign = value < 0 ? 0x8000 : 0
  const magnitude = Math.abs(value)
  const exponent = Math.max(Math.floor(Math.log2(magnitude || 1e-9)), -14)
  // 1,024 steps from a power of two to the next, and as many from 0 to the smallest normal number.
  const steps = Math.round(magnitude / 2 ** (exponent - 10))
  return sign | (((exponent + 14) << 10) + steps)
}

/** Marsaglia's xorshift32. */
function generator(seed: number): () => number {
  let x = seed | 0 || 1
  return () => {
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    return x >>> 0
  }
}

async function writeWeights(
  folder: string,
  preset: Preset,
  format: NativeStoredQuantization | undefined,
): Promise<void> {
  const samples = makeSamples(format)
  const groups = tensors(preset, format).map((tensor, i) => ({ tensors: [tensor], seed: i + 1 }))
  const chunk = new Uint16Array(1 << 21)
  await writeSafetensors(folder, groups, function* ({ tensors: [tensor], seed }) {
    if (tensor === undefined) return
    if (tensor.kind === 'g_idx') {
      if (tensor.layer && format) yield new Uint8Array(groupIndex(tensor.layer, format).buffer)
      return
    }
    const table = samples[tensor.kind]
    const random = generator(seed)
    for (let left = bytesOf(tensor) / 2; left > 0; left -= chunk.length) {
      const count = Math.min(left, chunk.length)
      for (let i = 0; i < count; ++i) chunk[i] = table[random() >>> 16] as number
      yield new Uint8Array(chunk.buffer, 0, count * 2)
    }
  })
}

async function writeSmallFiles(
  folder: string,
  preset: Preset,
  format: NativeStoredQuantization | undefined,
): Promise<void> {
  await mkdir(folder, { recursive: true })
  await writeConfig(folder, preset, format)
  await writeTokenizer(folder)
}

async function writeTokenizer(folder: string): Promise<void> {
  await writeJson(folder, 'tokenizer.json', await randomTokenizer())
  await writeJson(folder, 'tokenizer_config.json', {
    bos_token: null,
    eos_token: '<|im_end|>',
    pad_token: '<|endoftext|>',
    model_max_length: 32768,
    tokenizer_class: 'Qwen2Tokenizer',
  })
}

async function writeConfig(
  folder: string,
  p: Preset,
  format: NativeStoredQuantization | undefined,
): Promise<void> {
  await writeJson(folder, 'config.json', {
    architectures: ['Qwen2VLForConditionalGeneration'],
    model_type: 'qwen2_vl',
    hidden_size: p.hiddenSize,
    intermediate_size: p.intermediateSize,
    num_hidden_layers: p.layers,
    num_attention_heads: p.heads,
    num_key_value_heads: p.kvHeads,
    vocab_size: p.vocabSize,
    hidden_act: 'silu',
    rms_norm_eps: 1e-6,
    rope_theta: 1000000,
    rope_scaling: { type: 'mrope', mrope_section: [16, 24, 24] },
    max_position_embeddings: 32768,
    use_sliding_window: false,
    tie_word_embeddings: p.tied,
    torch_dtype: format ? 'float16' : 'bfloat16',
    ...(format && { quantization_config: quantizationConfig(format) }),
    bos_token_id: idOf('<|endoftext|>'),
    eos_token_id: idOf('<|im_end|>'),
    vision_start_token_id: idOf('<|vision_start|>'),
    vision_end_token_id: idOf('<|vision_end|>'),
    vision_token_id: idOf('<|vision_pad|>'),
    image_token_id: idOf('<|image_pad|>'),
    video_token_id: idOf('<|video_pad|>'),
    vision_config: {
      depth: p.visionDepth,
      embed_dim: p.visionWidth,
      mlp_ratio: 4,
      num_heads: p.visionHeads,
      in_chans: 3,
      hidden_size: p.hiddenSize,
      patch_size: 14,
      spatial_merge_size: 2,
      spatial_patch_size: 14,
      temporal_patch_size: 2,
    },
  })
  await writeJson(folder, 'generation_config.json', {
    do_sample: true,
    temperature: 0.01,
    top_p: 0.001,
    top_k: 1,
    repetition_penalty: 1.0,
    bos_token_id: idOf('<|endoftext|>'),
    pad_token_id: idOf('<|endoftext|>'),
    eos_token_id: [idOf('<|im_end|>'), idOf('<|endoftext|>')],
  })
  // The tiny checkpoint of the package has the published template and pixel constants.
  const bundled = (name: string) => join(packageRoot, 'models', 'qwen2-vl-tiny', name)
  const template = await readFile(bundled('chat_template.json'))
  await writeFile(join(folder, 'chat_template.json'), template)
  const preprocessor = JSON.parse(
    await readFile(bundled('preprocessor_config.json'), 'utf8'),
  ) as object
  await writeJson(folder, 'preprocessor_config.json', { ...preprocessor, max_pixels: 12845056 })
}

function idOf(token: (typeof ADDED_TOKENS)[number]): number {
  return BASE_TOKENS + ADDED_TOKENS.indexOf(token)
}

async function writeJson(folder: string, name: string, value: unknown): Promise<void> {
  await writeFile(join(folder, name), JSON.stringify(value, null, 1) + '\n')
}
