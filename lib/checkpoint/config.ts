/** `config.json` of a Qwen2-VL checkpoint, in the flat (published) and the nested (newer) layout. */
import { UnsupportedModelError } from '../errors.js'
import type { NativeModelConfig } from '../native.js'
import { Fields, type Range } from './fields.js'
import { describeJson, type JsonObject } from './files.js'
import {
  findQuantizationConfig,
  parseQuantizationConfig,
  type QuantizationSource,
} from './quantization-config.js'

/** The hyper-parameters of the two towers and the token ids that `config.json` names. */
export interface ModelConfig extends Omit<
  NativeModelConfig,
  'imageMean' | 'imageStd' | 'rescaleFactor'
> {
  /** Context the checkpoint was made for, in tokens. */
  maxPositionEmbeddings: number
  /** What the file says the weights are stored as; their own headers have the last word. */
  dtype: 'bf16' | 'fp16' | 'fp32' | undefined
  visionStartTokenId: number
  visionEndTokenId: number
  /** Empty where the file names none. */
  eosTokenIds: number[]
}

/** What a `config.json` describes. */
export interface ParsedConfig {
  /** The first entry of `architectures`. */
  architecture: string
  config: ModelConfig
}

const ARCHITECTURE = 'Qwen2VLForConditionalGeneration'

// Far beyond any model, and small enough that products of two stay exact in a double.
const SIZE: Range = { min: 1, max: 1 << 20 }
const COUNT: Range = { min: 1, max: 4096 }
const ROWS: Range = { min: 1, max: 1 << 24 }
/** Token ids, also those of generation_config.json. */
export const TOKEN_ID: Range = { min: 0, max: ROWS.max - 1 }

/**
 * Reads and checks `config.json`.
 *
 * @param json the parsed file, `file` its path for messages.
 * @param quantizerFile what an older quantiser wrote beside it; counts where the file does not say.
 * @throws UnsupportedModelError for another model or a kind of Qwen2-VL that this version cannot run.
 * @throws CheckpointError (`ERR_CHECKPOINT_CONFIG`) for values that are missing or cannot be right.
 */
export function parseConfig(
  json: JsonObject,
  file: string,
  quantizerFile?: QuantizationSource,
): ParsedConfig {
  const root = new Fields(file, json)
  const architecture = checkArchitecture(root, file)
  const textConfig = root.optionalObject('text_config')
  const text = textConfig?.or(root) ?? root
  refuseUnsupportedText(text, file)
  const quantization = findQuantizationConfig(text, file) ?? quantizerFile

  const hiddenSize = text.integer('hidden_size', SIZE)
  const numHeads = text.integer('num_attention_heads', COUNT)
  const headDim = checkHeadDim(text, hiddenSize, numHeads)
  const vocabSize = text.integer('vocab_size', ROWS)
  const tokenId = (key: string, fallback: number) =>
    checkTokenId(root.or(text), key, fallback, vocabSize)
  return {
    architecture,
    config: {
      hiddenSize,
      intermediateSize: text.integer('intermediate_size', SIZE),
      numLayers: text.integer('num_hidden_layers', COUNT),
      numHeads,
      numKvHeads: readKvHeads(json, text, numHeads),
      vocabSize,
      rmsNormEps: text.optionalNumber('rms_norm_eps', { min: 0, max: 1 }) ?? 1e-5,
      ...readRope(text, headDim, file),
      tieWordEmbeddings:
        root.optionalBoolean('tie_word_embeddings') === true ||
        textConfig?.optionalBoolean('tie_word_embeddings') === true,
      imageTokenId: tokenId('image_token_id', 151655),
      videoTokenId: tokenId('video_token_id', 151656),
      visionStartTokenId: tokenId('vision_start_token_id', 151652),
      visionEndTokenId: tokenId('vision_end_token_id', 151653),
      eosTokenIds: root.or(text).optionalIds('eos_token_id', TOKEN_ID) ?? [],
      maxPositionEmbeddings:
        text.optionalInteger('max_position_embeddings', { min: 1, max: 1 << 30 }) ?? 32768,
      dtype: readDtype(root.or(text)),
      ...(quantization && { storedQuantization: parseQuantizationConfig(quantization) }),
      vision: readVision(root, hiddenSize, file),
    },
  }
}

/** Looks at `model_type` before anything else: another model's keys mean other things. */
function checkArchitecture(root: Fields, file: string): string {
  const modelType = root.optionalString('model_type')
  if (modelType === undefined) root.missing('model_type')
  if (modelType !== 'qwen2_vl') {
    throw unsupported(
      `${file} describes ${otherModel(modelType)} (model_type ${describeJson(modelType)}). This ` +
        'package runs Qwen2-VL checkpoints (model_type "qwen2_vl").',
      { architecture: modelType, file },
    )
  }
  const { value: architectures, path } = root.get('architectures')
  if (architectures === undefined) return ARCHITECTURE
  if (!Array.isArray(architectures)) throw root.invalid(path, architectures, 'an array')
  const first: unknown = architectures[0]
  if (first === undefined || architectures.includes(ARCHITECTURE)) return ARCHITECTURE
  throw unsupported(
    `${file} names the architecture ${describeJson(first)}, which does not generate text as ` +
      `${ARCHITECTURE} does. Use a checkpoint of that architecture.`,
    { architecture: typeof first === 'string' ? first : describeJson(first), file },
  )
}

function otherModel(modelType: string): string {
  switch (modelType) {
    case 'qwen2_5_vl':
      return (
        'a Qwen2.5-VL model, the successor of Qwen2-VL with windowed vision attention, RMSNorm ' +
        'and SwiGLU in its vision tower'
      )
    case 'qwen2_vl_text':
      return 'the language model of Qwen2-VL alone, without its vision tower'
    case 'qwen2_vl_vision':
      return 'the vision tower of Qwen2-VL alone, without its language model'
    case 'qwen3_vl':
      return 'a Qwen3-VL model'
    case 'qwen2':
      return 'a Qwen2 language model without vision'
    default:
      return 'another model'
  }
}

function refuseUnsupportedText(text: Fields, file: string): void {
  const activation = text.optionalString('hidden_act') ?? 'silu'
  if (activation !== 'silu') {
    throw unsupported(`${file}: hidden_act is "${activation}"; Qwen2-VL uses "silu".`, { file })
  }
  const { value: layerTypes } = text.get('layer_types')
  const slidingLayers = Array.isArray(layerTypes) && layerTypes.includes('sliding_attention')
  if (text.optionalBoolean('use_sliding_window') === true || slidingLayers) {
    throw unsupported(
      `${file} switches sliding-window attention on (use_sliding_window). No published Qwen2-VL ` +
        'does, and this version attends to the whole context only.',
      { file },
    )
  }
}

/** Width of a head. A `head_dim` key is only accepted where it says what the sizes say. */
function checkHeadDim(text: Fields, hiddenSize: number, numHeads: number): number {
  const { path } = text.get('num_attention_heads')
  if (hiddenSize % numHeads !== 0) {
    throw text.invalid(path, numHeads, `a divisor of hidden_size, ${hiddenSize}`)
  }
  const headDim = hiddenSize / numHeads
  const stated = text.optionalInteger('head_dim', SIZE) ?? headDim
  if (stated !== headDim) {
    throw text.invalid('head_dim', stated, `hidden_size / num_attention_heads, ${headDim}`)
  }
  if (headDim % 2 !== 0) throw text.invalid(path, numHeads, `heads of even width, not ${headDim}`)
  return headDim
}

/** An explicit null means one key/value head for every head; a missing key is an error. */
function readKvHeads(json: JsonObject, text: Fields, numHeads: number): number {
  const stated = text.optionalInteger('num_key_value_heads', COUNT)
  if (stated === undefined) {
    const nested = json['text_config'] as JsonObject | undefined | null
    const explicitNull = [nested, json].some((object) => object?.['num_key_value_heads'] === null)
    return explicitNull ? numHeads : text.missing('num_key_value_heads')
  }
  if (numHeads % stated === 0) return stated
  const { path } = text.get('num_key_value_heads')
  throw text.invalid(path, stated, `a divisor of num_attention_heads, ${numHeads}`)
}

/**
 * `rope_scaling` and its newer spelling `rope_parameters` hold no scaling here but the layout of
 * M-RoPE: how many of the head_dim / 2 frequencies belong to time, height and width.
 */
function readRope(
  text: Fields,
  headDim: number,
  file: string,
): Pick<ModelConfig, 'ropeTheta' | 'mropeSection'> {
  const rope = text.optionalObject('rope_parameters') ?? text.optionalObject('rope_scaling')
  for (const key of ['rope_type', 'type']) {
    const type = rope?.optionalString(key) ?? 'default'
    if (type !== 'default' && type !== 'mrope') {
      throw unsupported(
        `${file} asks for RoPE scaling of type "${type}". This version runs Qwen2-VL's own M-RoPE ` +
          '(type "mrope" or "default"); remove the scaling, or use the published config.json.',
        { architecture: ARCHITECTURE, ropeType: type, file },
      )
    }
  }
  const section = rope?.optionalIntegerTriple('mrope_section', { min: 0, max: SIZE.max })
  const mropeSection = section ?? [16, 24, 24]
  const frequencies = mropeSection[0] + mropeSection[1] + mropeSection[2]
  if (frequencies !== headDim / 2) {
    const path = rope?.get('mrope_section').path ?? 'rope_scaling.mrope_section'
    throw text.invalid(path, mropeSection, `a sum of head_dim / 2, ${headDim / 2}`)
  }
  const range: Range = { min: 1, max: 1e12 }
  return {
    ropeTheta: (rope?.or(text) ?? text).optionalNumber('rope_theta', range) ?? 1e6,
    mropeSection,
  }
}

function checkTokenId(fields: Fields, key: string, fallback: number, vocabSize: number): number {
  const id = fields.optionalInteger(key, TOKEN_ID) ?? fallback
  if (id < vocabSize) return id
  throw fields.invalid(fields.get(key).path, id, `an id below vocab_size, ${vocabSize}`)
}

function readDtype(fields: Fields): ModelConfig['dtype'] {
  const name = fields.optionalString('dtype') ?? fields.optionalString('torch_dtype')
  switch (name?.replace(/^torch\./, '')) {
    case 'bfloat16':
      return 'bf16'
    case 'float16':
      return 'fp16'
    case 'float32':
      return 'fp32'
    default:
      return undefined
  }
}

/**
 * The vision tower. Re-exported files keep only keys that differ from the class defaults, so every
 * key has one; `hidden_size` is the width of the output, which must be the language model's.
 */
function readVision(root: Fields, hiddenSize: number, file: string): ModelConfig['vision'] {
  const vision = root.optionalObject('vision_config') ?? new Fields(file, {}, 'vision_config')
  const fixed: [keys: string[], value: number][] = [
    [['in_chans', 'in_channels'], 3],
    [['patch_size', 'spatial_patch_size'], 14],
    [['temporal_patch_size'], 2],
    [['spatial_merge_size'], 2],
    [['hidden_size'], hiddenSize],
  ]
  for (const [keys, value] of fixed) {
    for (const key of keys) {
      const stated = vision.optionalInteger(key, SIZE) ?? value
      if (stated !== value) throw vision.invalid(vision.get(key).path, stated, String(value))
    }
  }
  const activation = vision.optionalString('hidden_act') ?? 'quick_gelu'
  if (activation !== 'quick_gelu') {
    throw unsupported(
      `${file}: vision_config.hidden_act is "${activation}"; Qwen2-VL uses "quick_gelu".`,
      { file },
    )
  }
  const embedDim = vision.optionalInteger('embed_dim', SIZE) ?? 1280
  const numHeads = vision.optionalInteger('num_heads', COUNT) ?? 16
  // The 2-D rotary embedding gives a quarter of a head's width to each of its four parts.
  if (embedDim % (4 * numHeads) !== 0) {
    const expected = `heads whose width is a multiple of 4 and that divide embed_dim, ${embedDim}`
    throw vision.invalid(vision.get('num_heads').path, numHeads, expected)
  }
  const mlpRatio = vision.optionalNumber('mlp_ratio', { min: 1 / 64, max: 64 }) ?? 4
  return {
    depth: vision.optionalInteger('depth', COUNT) ?? 32,
    embedDim,
    numHeads,
    mlpDim: Math.trunc(embedDim * mlpRatio),
    outDim: hiddenSize,
  }
}

function unsupported(message: string, details: Record<string, string>): UnsupportedModelError {
  return new UnsupportedModelError(message, { details })
}
