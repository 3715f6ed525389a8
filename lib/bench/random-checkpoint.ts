/**
 * Checkpoints with random weights in the published layout, for benchmarks: sizes, file formats and the size
 * of the vocabulary are real, answers are noise.
 */
import { existsSync } from 'node:fs'
import { mkdir, open, readFile, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
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
const presets = {
  '2b': { hiddenSize: 1536, layers: 28, heads: 12, kvHeads: 2, intermediateSize: 8960, vocabSize: 151936, tied: true, ...tower },
  '7b': { hiddenSize: 3584, layers: 28, heads: 28, kvHeads: 4, intermediateSize: 18944, vocabSize: 152064, tied: false, ...tower },
}

/** Sizes of published models. */
export type PresetName = keyof typeof presets

export const presetNames = Object.keys(presets) as PresetName[]

const SHARD_BYTES = 4e9
/** Written last: a folder without it is not complete. */
const INDEX = 'model.safetensors.index.json'

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
  if (existsSync(join(folder, INDEX))) return
  onBegin()
  const preset = presets[name]
  await mkdir(folder, { recursive: true })
  await writeConfig(folder, preset)
  await writeTokenizer(folder)
  await writeWeights(folder, preset)
}

/** Bytes of the weights of a preset. */
export function presetBytes(name: PresetName): number {
  return tensors(presets[name]).reduce((sum, tensor) => sum + elements(tensor) * 2, 0)
}

type TensorKind = 'matrix' | 'bias' | 'norm'

interface Tensor {
  name: string
  shape: number[]
  kind: TensorKind
}

/** All tensors of the published layout, in file order. */
function tensors(p: Preset): Tensor[] {
  const list: Tensor[] = []
  const matrix = (name: string, ...shape: number[]) => list.push({ name, shape, kind: 'matrix' })
  const bias = (name: string, size: number) => list.push({ name, shape: [size], kind: 'bias' })
  const norm = (name: string, size: number) => list.push({ name, shape: [size], kind: 'norm' })
  const linear = (name: string, out: number, input: number) => {
    matrix(`${name}.weight`, out, input)
    bias(`${name}.bias`, out)
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
    linear(`${layer}.self_attn.q_proj`, p.hiddenSize, p.hiddenSize)
    linear(`${layer}.self_attn.k_proj`, kvSize, p.hiddenSize)
    linear(`${layer}.self_attn.v_proj`, kvSize, p.hiddenSize)
    matrix(`${layer}.self_attn.o_proj.weight`, p.hiddenSize, p.hiddenSize)
    matrix(`${layer}.mlp.gate_proj.weight`, p.intermediateSize, p.hiddenSize)
    matrix(`${layer}.mlp.up_proj.weight`, p.intermediateSize, p.hiddenSize)
    matrix(`${layer}.mlp.down_proj.weight`, p.hiddenSize, p.intermediateSize)
  }
  norm('model.norm.weight', p.hiddenSize)
  if (!p.tied) matrix('lm_head.weight', p.vocabSize, p.hiddenSize)
  return list
}

const elements = (tensor: Tensor) => tensor.shape.reduce((product, size) => product * size, 1)

/** 65,536 samples of N(mean, deviation) as bf16; a tensor draws from them by a 16-bit generator. */
function bf16Samples(mean: number, deviation: number): Uint16Array {
  const float = new Float32Array(1)
  const bits = new Uint32Array(float.buffer)
  const random = generator(1)
  return Uint16Array.from({ length: 65536 }, () => {
    const u = (random() + 1) / 4294967297
    const v = random() / 4294967296
    float[0] = mean + deviation * Math.sqrt(-2 * Math.log(u)) * Math.cos(2 * Math.PI * v)
    return ((bits[0] as number) + 0x8000) >>> 16
  })
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

/** Tensors in file order, cut where a file would grow beyond what is published. */
function toShards(all: readonly Tensor[]): Tensor[][] {
  let shard: Tensor[] = []
  const shards = [shard]
  let used = 0
  for (const tensor of all) {
    const bytes = elements(tensor) * 2
    if (used > 0 && used + bytes > SHARD_BYTES) {
      shards.push((shard = []))
      used = 0
    }
    shard.push(tensor)
    used += bytes
  }
  return shards
}

async function writeWeights(folder: string, p: Preset): Promise<void> {
  const samples = {
    matrix: bf16Samples(0, 0.02),
    bias: bf16Samples(0, 0.02),
    norm: bf16Samples(1, 0.05),
  }
  const shards = toShards(tensors(p))
  const weightMap: Record<string, string> = {}
  let totalSize = 0
  let seed = 1
  const chunk = new Uint16Array(1 << 21)
  for (const [index, shard] of shards.entries()) {
    const number = (n: number) => String(n).padStart(5, '0')
    const file = `model-${number(index + 1)}-of-${number(shards.length)}.safetensors`
    const header: Record<string, unknown> = { __metadata__: { format: 'pt' } }
    let offset = 0
    for (const tensor of shard) {
      const end = offset + elements(tensor) * 2
      header[tensor.name] = { dtype: 'BF16', shape: tensor.shape, data_offsets: [offset, end] }
      weightMap[tensor.name] = file
      offset = end
    }
    totalSize += offset
    const json = Buffer.from(JSON.stringify(header))
    const length = Buffer.alloc(8)
    length.writeBigUInt64LE(BigInt(json.length))
    const handle = await open(join(folder, file), 'w')
    await handle.write(Buffer.concat([length, json]))
    for (const tensor of shard) {
      const table = samples[tensor.kind]
      const random = generator(seed++)
      for (let left = elements(tensor); left > 0;) {
        const count = Math.min(left, chunk.length)
        for (let i = 0; i < count; ++i) chunk[i] = table[random() >>> 16] as number
        await handle.write(new Uint8Array(chunk.buffer, 0, count * 2))
        left -= count
      }
    }
    await handle.close()
  }
  await writeJson(folder, INDEX, { metadata: { total_size: totalSize }, weight_map: weightMap })
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

async function writeConfig(folder: string, p: Preset): Promise<void> {
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
    torch_dtype: 'bfloat16',
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
