/** The bundled checkpoint through the addon alone, without the rest of lib/. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  nativeBinding,
  type NativeGenerationEvent,
  type NativeGenerationRequest,
  type NativeLoading,
  type NativeLoadOptions,
  type NativeLoadProgress,
  type NativeModel,
  type NativeSampling,
} from '../../lib/native.js'
import { packageRoot } from '../../lib/package-root.js'

export const addon = nativeBinding()
const tinyFolder = join(packageRoot, 'models', 'qwen2-vl-tiny')

interface Sample {
  id: string
  prompt_token_ids: number[]
  max_new_tokens: number
  reference: {
    token_ids: number[]
    text: string
    first_steps_top5: { id: number; logit: number }[][]
  }
}

const { samples } = JSON.parse(readFileSync(join(tinyFolder, 'samples.json'), 'utf8')) as {
  samples: Sample[]
}

export function sample(id: string): Sample {
  const found = samples.find((candidate) => candidate.id === id)
  if (!found) throw new Error(`no sample ${id}`)
  return found
}

/** As models/qwen2-vl-tiny/config.json and preprocessor_config.json say. */
export const tinyLoadOptions: NativeLoadOptions = {
  weightFiles: [join(tinyFolder, 'model.safetensors')],
  config: {
    hiddenSize: 256,
    intermediateSize: 576,
    numLayers: 4,
    numHeads: 8,
    numKvHeads: 2,
    vocabSize: 1280,
    rmsNormEps: 1e-6,
    ropeTheta: 10000,
    mropeSection: [4, 6, 6],
    tieWordEmbeddings: true,
    imageTokenId: 1258,
    videoTokenId: 1259,
    vision: { depth: 4, embedDim: 192, numHeads: 6, mlpDim: 768, outDim: 256 },
    imageMean: [0.48145466, 0.4578275, 0.40821073],
    imageStd: [0.26862954, 0.26130258, 0.27577711],
    rescaleFactor: 1 / 255,
  },
  threads: 0,
  cudaDevice: null,
  instructionSet: '',
  weightDtype: 'auto',
  weights: 'packed',
  quantization: 'none',
  visionQuantization: 'none',
  activations: 'fp32',
  kvDtype: 'fp32',
  kvCacheTokens: 16384,
  maxContext: 2048,
  maxSequences: 16,
  maxQueue: 64,
  prefillChunk: 256,
  imageCacheBytes: 2 ** 28,
}

export function startLoading(
  changes: Partial<NativeLoadOptions> = {},
  onProgress?: (progress: NativeLoadProgress) => void,
): NativeLoading {
  return addon.loadModel({ ...tinyLoadOptions, ...changes }, onProgress)
}

export const loadTiny = (changes?: Partial<NativeLoadOptions>): Promise<NativeModel> =>
  startLoading(changes).promise

export const greedy: NativeSampling = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  frequencyPenalty: 0,
  presencePenalty: 0,
  penaltyLastN: -1,
  noRepeatNgramSize: 0,
  logitBias: [],
  seed: 0n,
}

/** A context that is full soon. */
export const shortContext = { maxContext: 256 }

/** A text-only request that ends at the end of the turn. */
export function textRequest(
  changes: Partial<NativeGenerationRequest> = {},
): NativeGenerationRequest {
  const { prompt_token_ids, max_new_tokens } = sample('text-who')
  return {
    prompt: Int32Array.from(prompt_token_ids),
    items: [],
    sampling: greedy,
    stopIds: Int32Array.of(1248, 1246),
    maxTokens: max_new_tokens,
    priority: 0,
    useCache: false,
    maxDraftTokens: 0,
    logProbabilities: false,
    topLogits: 0,
    ...changes,
  }
}

/** One that goes on until the context is full. */
export const unendingRequest = (): NativeGenerationRequest =>
  textRequest({ stopIds: new Int32Array(0), maxTokens: 4096 })

type Token = Extract<NativeGenerationEvent, { type: 'token' }>
type Finish = Extract<NativeGenerationEvent, { type: 'finish' }>

export interface Run {
  /** Settles with the last event. */
  end: Promise<Finish & { tokens: Token[]; ids: number[] }>
  /** Resolves when `count` tokens have come. */
  readonly tokens: (count: number) => Promise<void>
  readonly cancel: () => void
}

export function run(model: NativeModel, request: NativeGenerationRequest): Run {
  const tokens: Token[] = []
  const waiting: { count: number; resolve: () => void }[] = []
  let cancel!: () => void
  const end = new Promise<Finish & { tokens: Token[]; ids: number[] }>((resolve, reject) => {
    const generation = model.generate(request, (event) => {
      if (event.type === 'token') {
        tokens.push(event)
        for (const { count, resolve: reached } of waiting) if (tokens.length >= count) reached()
      } else if (event.type === 'finish') {
        resolve({ ...event, tokens, ids: tokens.map(({ id }) => id) })
      } else {
        reject(event.error)
      }
    })
    cancel = () => generation.cancel()
  })
  end.catch(() => {}) // whoever awaits it gets the error
  return {
    end,
    cancel,
    tokens: (count) =>
      new Promise((resolve) => {
        if (tokens.length >= count) resolve()
        else waiting.push({ count, resolve })
      }),
  }
}
