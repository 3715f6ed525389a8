/** A loaded model: the interface that callers hold, and the one that runs in this process. */
import { basename } from 'node:path'
import type { ChatMessage } from './chat/messages.js'
import { ChatTemplate } from './chat/template.js'
import type { ToolChoice, ToolDefinition } from './chat/tools.js'
import { createChat, type Chat, type ChatOptions, type Turn } from './chat-session.js'
import type { Checkpoint } from './checkpoint/checkpoint.js'
import { GrammarCompiler } from './constraint/compiler.js'
import type { ObjectOf, ResponseFormat } from './constraint/response-format.js'
import { DisposedError, fromNativeError } from './errors.js'
import { estimateRequest, type MemoryEstimate } from './generation/estimate.js'
import { Abort } from './generation/abort.js'
import { runBatch, type BatchOptions } from './generation/batch.js'
import { runGeneration, type GenerationContext } from './generation/generate.js'
import { MediaPlaces } from './generation/media-places.js'
import { identify } from './generation/openai.js'
import {
  followRequest,
  mergeOptions,
  parseRequest,
  parseTemplateOptions,
  type GenerateRequest,
} from './generation/options.js'
import { Pace } from './generation/pace.js'
import { Processor } from './generation/processor.js'
import { measurePrompt, renderMessages } from './generation/prompt.js'
import type { GenerateResult, GenerationEvent, TokenCount } from './generation/result.js'
import { prepareForModel, type PrepareImageOptions } from './generation/prepare-image.js'
import { GenerationStream } from './generation/stream.js'
import type { MemoryPlan } from './memory-plan.js'
import type { NativeMetrics, NativeModel } from './native.js'
import type { MediaOptions } from './processor/media-options.js'
import { storedQuantizationOf, type Quantization, type StoredQuantization } from './quantization.js'
import type { PreparedImage } from './processor/prepared-image.js'
import type { ImageSource } from './processor/source.js'
import type { Tokenizer } from './tokenizer/tokenizer.js'

/** What a loaded model is and where it runs. */
export interface ModelInfo {
  /** Absolute path of the checkpoint's folder. */
  folder: string
  /** As `config.json` names it, for example `Qwen2VLForConditionalGeneration`. */
  architecture: string
  device: {
    kind: 'cpu' | 'cuda'
    /** The processor's or the GPU's name. */
    name: string
    /**
     * Of the kernels: `avx512_vnni`, `avx512`, `avx_vnni`, `avx2` or `sse42`; on arm64 `neon_dotprod`
     * or `neon`; or `scalar`. On a GPU its compute capability: `sm_90`.
     */
    instructionSet: string
    /** That compute; on a GPU those that bring the weights to it. */
    threads: number
    /** All memory of a GPU, in bytes. */
    memoryBytes?: number
    /** Why it is this device. */
    reason: string
  }
  /** What the weights are kept as, but for those that are quantised. */
  dtype: string
  /** Whether weights are in memory of this process, or in their files, which are mapped. */
  weights: 'packed' | 'mapped'
  /** Which weights are quantised, and what they are multiplied with. */
  quantization: Quantization
  /** Of a checkpoint that is published quantised: how its decoder's matrices are stored, and stay. */
  storedQuantization?: StoredQuantization
  parameters: number
  weightBytes: number
  /** The most tokens of one prompt and its answer. */
  contextSize: number
  maxConcurrency: number
  /** Room for keys and values. Memory is committed as it is first used; on a GPU it is taken at once. */
  kvCache: { dtype: 'fp32' | 'bf16' | 'fp16'; tokens: number; bytesPerToken: number }
}

export type { NativeMetrics as ModelMetrics } from './native.js'

/** A loaded model. Any number of requests may run at once; they share the steps of the engine. */
export interface Model extends AsyncDisposable {
  readonly info: ModelInfo
  readonly tokenizer: Tokenizer
  /** Messages and pictures to arrays: token ids, patches, grids, positions. */
  readonly processor: Processor
  /**
   * The prompt's text, each image or video one placeholder. Pictures are not read.
   *
   * @throws InvalidArgumentError for messages or a template that cannot be used.
   */
  applyChatTemplate(messages: readonly ChatMessage[], options?: ChatTemplateOptions): string
  /** The whole answer. Many calls at once are a batch. Never throws synchronously. */
  generate<const Format extends ResponseFormat = ResponseFormat>(
    request: GenerateRequest<Format>,
  ): Promise<GenerateResult<ObjectOf<Format>>>
  /**
   * Many answers, each settling on its own: in the order of the requests, with an error in place of each
   * that failed. The same as `Promise.allSettled` over `generate()`, with a bound on how many run.
   */
  generateBatch(
    requests: readonly GenerateRequest[],
    options?: BatchOptions,
  ): Promise<(GenerateResult | Error)[]>
  /** The answer piece by piece. A wrong request rejects the iterator and `result`. */
  stream<const Format extends ResponseFormat = ResponseFormat>(
    request: GenerateRequest<Format>,
  ): GenerationStream<ObjectOf<Format>>
  /**
   * Tokens of the request's prompt. Nothing is decoded: sizes come from the headers of images, sizes and
   * frame counts from the containers of videos. Streams are used up by it.
   */
  countTokens(request: GenerateRequest): Promise<TokenCount>
  /**
   * The memory and the work that the request will need, whether it fits, and otherwise the `maxPixels`
   * with which it would. Nothing is decoded.
   */
  estimate(request: GenerateRequest): Promise<MemoryEstimate>
  /**
   * A conversation that keeps its history. What the model has seen of it is not computed again.
   *
   * @throws InvalidArgumentError for wrong options or messages.
   */
  createChat(options?: ChatOptions): Chat
  /**
   * Reads, decodes and resizes an image once for many requests. It is encoded at its first use, and that is
   * kept until the image is disposed of.
   */
  prepareImage(image: ImageSource, options?: PrepareImageOptions): Promise<PreparedImage>
  /** What the engine is doing at this moment, and what it has done. */
  metrics(): NativeMetrics
  /**
   * Forgets prompts, answers and images that are kept to serve later requests, prepared images excepted.
   * Their memory goes back to the system, that of the KV cache only while no request runs. On a GPU the KV cache
   * keeps its memory, which another process could take.
   */
  clearCache(): Promise<void>
  /**
   * Gives the memory back; it is back when the promise resolves. Running requests reject with
   * DisposedError. May be called again.
   */
  dispose(): Promise<void>
}

/** Options of {@link Model.applyChatTemplate}. */
export interface ChatTemplateOptions {
  /** End with the beginning of the assistant's turn. Default: true. */
  addGenerationPrompt?: boolean
  /** Write `Picture 1: `, `Video 1: ` before images and videos. Default: false. */
  addVisionId?: boolean
  /** A Jinja template instead of the checkpoint's. */
  chatTemplate?: string
  /** Functions that the model is told of. */
  tools?: readonly ToolDefinition[]
  toolChoice?: ToolChoice
  parallelToolCalls?: boolean
}

/** What loading has brought together. */
export interface ModelParts {
  native: NativeModel
  checkpoint: Checkpoint
  tokenizer: Tokenizer
  plan: MemoryPlan
  /** What is accepted as images and videos. */
  media: MediaOptions
  /** What the weights are kept as. */
  dtype: string
  weights: 'packed' | 'mapped'
  quantization: Quantization
  deviceReason: string
  /** The longest draft of speculative prompt lookup, where a request does not say. */
  promptLookupTokens: number
}

/** The model that runs in this process. */
export function createModel(parts: ModelParts): Model {
  return new LocalModel(parts)
}

class LocalModel implements Model {
  readonly info: ModelInfo
  readonly tokenizer: Tokenizer
  readonly processor: Processor
  readonly #context: GenerationContext
  readonly #running = new Set<Abort>()
  #disposal: Promise<void> | undefined

  constructor(parts: ModelParts) {
    const { native, checkpoint, tokenizer, plan, media, deviceReason } = parts
    const stored = storedQuantizationOf(checkpoint.config)
    this.tokenizer = tokenizer
    this.info = {
      folder: checkpoint.folder,
      architecture: checkpoint.architecture,
      device: { ...native.device, reason: deviceReason },
      dtype: parts.dtype,
      weights: parts.weights,
      quantization: parts.quantization,
      ...(stored && { storedQuantization: stored }),
      parameters: native.numParameters,
      weightBytes: native.weightBytes,
      contextSize: plan.contextSize,
      maxConcurrency: plan.maxConcurrency,
      kvCache: {
        dtype: plan.kvDtype,
        tokens: plan.kvCacheTokens,
        bytesPerToken: plan.kvBytesPerToken,
      },
    }
    const { generation, config } = checkpoint
    this.#context = {
      native,
      name: basename(checkpoint.folder),
      pace: new Pace(plan.maxConcurrency),
      checkpoint,
      tokenizer,
      template: ChatTemplate.ofCheckpoint(checkpoint.chatTemplate),
      media,
      mediaPlaces: new MediaPlaces(),
      grammars: new GrammarCompiler(native, tokenizer),
      contextSize: plan.contextSize,
      promptLookupTokens: parts.promptLookupTokens,
      stopIds: Int32Array.from(generation.eosTokenIds ?? config.eosTokenIds),
    }
    this.processor = new Processor(this.#context, (work) => this.#run(work))
  }

  applyChatTemplate(messages: readonly ChatMessage[], options: ChatTemplateOptions = {}): string {
    const request = { ...parseTemplateOptions(options), messages }
    return renderMessages(this.#context.template, request).text
  }

  generate<Format extends ResponseFormat>(
    request: GenerateRequest<Format>,
  ): Promise<GenerateResult<ObjectOf<Format>>> {
    // The format, which was checked, says what the object is.
    return this.#run((abort) => this.#generate(request, abort)) as Promise<
      GenerateResult<ObjectOf<Format>>
    >
  }

  generateBatch(
    requests: readonly GenerateRequest[],
    options: BatchOptions = {},
  ): Promise<(GenerateResult | Error)[]> {
    const runOne = (request: unknown, batch: Abort) => {
      const abort = new Abort()
      const unfollow = batch.onAbort(() => abort.abort(batch.reason))
      return this.#generate(request, abort).finally(unfollow)
    }
    const { maxConcurrency } = this.info
    return this.#run((batch) => runBatch(requests, options, { batch, maxConcurrency, runOne }))
  }

  stream<Format extends ResponseFormat>(
    request: GenerateRequest<Format>,
  ): GenerationStream<ObjectOf<Format>> {
    const abort = new Abort()
    const identity = identify(request, this.#context.name)
    const call = { method: 'stream', identity } as const
    const start = (emit: (event: GenerationEvent) => void) =>
      this.#run(() => runGeneration(this.#context, request, abort, emit, call), abort)
    return new GenerationStream(abort, start, identity) as GenerationStream<ObjectOf<Format>>
  }

  countTokens(request: GenerateRequest): Promise<TokenCount> {
    return this.#run(async (abort) => {
      const parsed = parseRequest(request)
      followRequest(abort, parsed)
      abort.throwIfAborted()
      const { counts, images, videos } = await measurePrompt(this.#context, parsed, abort)
      return { ...counts, images, videos }
    })
  }

  estimate(request: GenerateRequest): Promise<MemoryEstimate> {
    return this.#run(async (abort) => {
      const parsed = parseRequest(request)
      followRequest(abort, parsed)
      abort.throwIfAborted()
      const { counts, items } = await measurePrompt(this.#context, parsed, abort)
      const { contextSize, checkpoint } = this.#context
      const { maxTokens, n } = mergeOptions(parsed, checkpoint.generation)
      const estimate = estimateRequest({
        config: checkpoint.config,
        contextSize,
        kvBytesPerToken: this.info.kvCache.bytesPerToken,
        weightsBytes: this.info.weightBytes,
        availableBytes: await this.#availableBytes(),
        isOnGpu: this.info.device.kind === 'cuda',
        textTokens: counts.textTokens,
        maxTokens: Math.min(maxTokens, Math.max(contextSize - counts.promptTokens, 0)),
        answers: n,
        items,
      })
      const expectedMs = this.#context.pace.expect(estimate)
      return { ...estimate, ...(expectedMs && { expectedMs }) }
    })
  }

  /** What the device can give beside the weights; 0 when it does not say. */
  async #availableBytes(): Promise<number> {
    const available = await typed(this.#context.native.availableBytes())
    if (this.info.weights === 'packed' || available === 0) return available
    // The system counts the pages of mapped files as free, but these are in use.
    return Math.max(available - this.info.weightBytes, 1)
  }

  createChat(options: ChatOptions = {}): Chat {
    const run = ({ request, memory, abort, emit, ...call }: Turn) => {
      const context = { ...this.#context, memory }
      return this.#run(() => runGeneration(context, request, abort, emit, call), abort)
    }
    return createChat({ name: this.#context.name, run }, options)
  }

  prepareImage(image: ImageSource, options: PrepareImageOptions = {}): Promise<PreparedImage> {
    return this.#run((abort) => prepareForModel(this.#context, image, options, abort))
  }

  async clearCache(): Promise<void> {
    if (this.#disposal) throw new DisposedError()
    await typed(this.#context.native.clearCache())
  }

  metrics(): NativeMetrics {
    return this.#context.native.metrics()
  }

  dispose(): Promise<void> {
    this.#disposal ??= this.#dispose()
    return this.#disposal
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }

  #generate(request: unknown, abort: Abort): Promise<GenerateResult> {
    return runGeneration(this.#context, request, abort, undefined, { method: 'generate' })
  }

  async #dispose(): Promise<void> {
    for (const abort of [...this.#running]) abort.abort(new DisposedError())
    await this.#context.native.dispose()
  }

  /** Runs work that dispose() ends. */
  async #run<T>(work: (abort: Abort) => Promise<T>, abort = new Abort()): Promise<T> {
    if (this.#disposal) throw new DisposedError()
    this.#running.add(abort)
    try {
      return await work(abort)
    } finally {
      this.#running.delete(abort)
      abort.close()
    }
  }
}

/** With the errors of lib/errors.ts for those of the addon. */
async function typed<T>(call: Promise<T>): Promise<T> {
  try {
    return await call
  } catch (error) {
    throw fromNativeError(error)
  }
}
