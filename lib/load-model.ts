/** Loads a checkpoint: its files, its tokenizer, and its weights on a native thread. */
import { z } from 'zod'
import { openCheckpoint, toNativeConfig, type Checkpoint } from './checkpoint/checkpoint.js'
import { chooseDevice, type DeviceChoice } from './device.js'
import { fromNativeError, InvalidArgumentError } from './errors.js'
import { Abort } from './generation/abort.js'
import { MAX_DRAFT_TOKENS } from './generation/options.js'
import { parseOptions } from './generation/parse-options.js'
import { findModelFolder } from './hub/find-model.js'
import { hubOptionsShape } from './hub/settings.js'
import { createModel, type Model } from './model.js'
import {
  nativeBinding,
  type NativeBinding,
  type NativeLoadProgress,
  type NativeModel,
} from './native.js'
import { isHostPattern } from './processor/hosts.js'
import { toMediaOptions, type MediaOptions } from './processor/media-options.js'
import { quantizationOf } from './quantization.js'
import { Tokenizer } from './tokenizer/tokenizer.js'

/** How far a load has come. */
export interface LoadProgress {
  /**
   * `download`: a model of the hub that is not in the cache comes to the disk; `files`: configuration and
   * tokenizer; `weights`: the safetensors files; `ready`: the end.
   */
  phase: 'download' | 'files' | 'weights' | 'ready'
  /** Of the download; then of the weights. */
  loadedBytes: number
  totalBytes: number
}

/**
 * With the token before them eight rows of a step, which cost little more than one: what takes the time is
 * to read the weights.
 */
const DEFAULT_PROMPT_LOOKUP_TOKENS = 7
const DEFAULT_PREFILL_CHUNK = { cpu: 256, cuda: 1024 } as const

const pixelArea = z
  .int()
  .min(1)
  .max(2 ** 31 - 1)

const optionsSchema = z.strictObject({
  ...hubOptionsShape,
  /**
   * What computes. `auto` takes the first GPU where one can be used and holds the model, and otherwise the CPU;
   * `Model.info.device.reason` says why. `cuda`, or `cuda:1` for the second, is refused where it cannot be
   * used. On a GPU weights, activations and the KV cache have 16 bits: fp32 checkpoints become bf16. Default: `auto`.
   */
  device: z
    .string()
    .regex(/^(auto|cpu|cuda(:\d+)?)$/, "must be 'auto', 'cpu' or 'cuda'")
    .optional(),
  /** What weights are kept as. `auto`: as stored. */
  dtype: z.enum(['auto', 'bf16', 'fp16', 'fp32']).optional(),
  /**
   * `packed` reads the weights into memory of this process, in the layout that computes fastest. `mapped` leaves
   * them in their files, which become memory: loading takes no time, processes share the pages, and the
   * system may take them back. Answers are the same, tokens come more slowly, and `dtype` cannot convert. The
   * files must not be changed while the model lives: to replace one, write another and rename it. Default:
   * `packed`.
   */
  weights: z.enum(['packed', 'mapped']).optional(),
  /**
   * Quantises the decoder while it is read: its layers to 8 or 4 bits, embedding table and output head to 8. It
   * then needs about a half or a third of the memory and answers faster, but no longer with the
   * reference's numbers. Default: `none`.
   */
  quantization: z.enum(['none', 'int8', 'int4']).optional(),
  /** Quantises the linear layers of the vision tower likewise. Default: `none`. */
  visionQuantization: z.enum(['none', 'int8']).optional(),
  /**
   * What quantised weights are multiplied with. `int8` rounds each row's activations in blocks, which makes
   * long prompts and images much faster at a further loss. Default: `fp32`.
   */
  activations: z.enum(['fp32', 'int8']).optional(),
  /**
   * The most tokens of one prompt and its answer. Default: the checkpoint's own context, or what a
   * quarter of the free memory holds as KV cache if that is less; on a GPU six tenths of what the weights leave free.
   */
  contextSize: z
    .int()
    .min(16)
    .max(1 << 24)
    .optional(),
  /**
   * Bytes for weights and KV cache together; mapped weights do not count. Default: a quarter of the free memory
   * for the KV cache, on a GPU six tenths of what the weights leave free.
   */
  memoryLimit: z.int().min(1).optional(),
  /**
   * What keys and values are kept as. `auto` is `fp32` on the CPU: 16-bit ones take half the memory
   * but move logits by about 1e-2, so that greedy answers would no longer equal the reference's.
   */
  kvCacheType: z.enum(['auto', 'fp32', 'bf16', 'fp16']).optional(),
  /** How many requests may share the steps of the engine; more wait. Default: 32. */
  maxConcurrency: z.int().min(1).max(1024).optional(),
  /** How many requests may wait; more are refused with QueueFullError. Default: 1024. */
  maxQueue: z
    .int()
    .min(0)
    .max(1 << 24)
    .optional(),
  /**
   * Prompt tokens of one step: more are faster, fewer let concurrent answers flow. Default: 256, on a GPU 1024, as
   * products of fewer rows leave most of it idle.
   */
  prefillChunk: z.int().min(1).max(4096).optional(),
  /**
   * Bytes of visual tokens that are kept, so that an image that comes again is not encoded again. The least
   * recently used ones go. Default: 256 MiB. 0 = keep none but those of model.prepareImage().
   */
  imageCacheBytes: z.int().min(0).optional(),
  /**
   * Speculative prompt lookup of requests that do not name it themselves: the longest draft that one step
   * verifies. Answers are the same. Default: 7. 0 = off.
   */
  promptLookupTokens: z.int().min(0).max(MAX_DRAFT_TOKENS).optional(),
  /** Threads that compute. Default: the physical cores this process may use. */
  threads: z.int().min(1).max(1024).optional(),
  /** Smallest area of an image in pixels, in place of the checkpoint's; an image's own wins. */
  minPixels: pixelArea.optional(),
  /** Largest area of an image in pixels, in place of the checkpoint's; an image's own wins. */
  maxPixels: pixelArea.optional(),
  /** Largest encoded image in bytes. Default: 64 MiB. */
  maxImageBytes: z
    .int()
    .min(1)
    .max(2 ** 32 - 1)
    .optional(),
  /** Most pixels of an image, looked at before it is decoded. Default: 268,435,456. */
  maxImagePixels: z
    .int()
    .min(1)
    .max(1 << 30)
    .optional(),
  /** Whether `http:` and `https:` addresses are fetched. Default: true. */
  allowUrls: z.boolean().optional(),
  /** Whether paths and `file:` URLs are read. Default: true. */
  allowFiles: z.boolean().optional(),
  /** Hosts that may be asked, such as `images.example.com` or `*.example.com`. Default: every public one. */
  allowedHosts: z
    .array(
      z.string().refine(isHostPattern, "must be hosts like 'a.example.com' or '*.example.com'"),
    )
    .optional(),
  /** Whether addresses of private networks and of this machine may be asked. Default: false. */
  allowPrivateHosts: z.boolean().optional(),
  /** Time for one fetch, redirects included. Default: 10 s for an image, 60 s for a video. */
  fetchTimeoutMs: z
    .int()
    .min(1)
    .max(2 ** 31 - 1)
    .optional(),
  /**
   * What becomes of the transparency of RGBA images: `composite` puts white behind (qwen-vl-utils
   * since 0.0.10), `drop` shows the colours as stored (0.0.8). Default: `composite`.
   */
  alpha: z.enum(['composite', 'drop']).optional(),
  /** `apply` turns photos as their EXIF orientation says. Default: `ignore`, as the reference. */
  exif: z.enum(['ignore', 'apply']).optional(),
  /** Largest video file in bytes. Default: 2 GiB. */
  maxVideoBytes: z.int().min(1).optional(),
  /**
   * The ffmpeg that decodes video files. Default: the environment variable QWEN2_VL_FFMPEG, the search
   * path, or the package `ffmpeg-static` or `@ffmpeg-installer/ffmpeg` where one is installed.
   */
  ffmpegPath: z.string().min(1).optional(),
  /** The longest wait for ffmpeg's next output. Default: 60 s. */
  videoTimeoutMs: z
    .int()
    .min(1)
    .max(2 ** 31 - 1)
    .optional(),
  /**
   * Which published rules choose and size the frames of video files. Default: `utils-0.0.8`, which
   * belongs to Qwen2-VL; `utils-later` spends up to five times as many tokens on long videos.
   */
  videoProfile: z.enum(['utils-0.0.8', 'utils-later']).optional(),
  /** Aborts the load: it rejects with `signal.reason`. */
  signal: z.instanceof(AbortSignal).optional(),
  /** Called about twenty times a second. */
  onProgress: z
    .custom<(progress: LoadProgress) => void>((value) => typeof value === 'function', {
      error: 'must be a function',
    })
    .optional(),
})

type CheckedOptions = z.output<typeof optionsSchema>

/**
 * How to load a model. Everything has a default.
 *
 * @interface
 */
export type LoadModelOptions = Omit<CheckedOptions, 'device'> & {
  device?: 'auto' | 'cpu' | 'cuda' | `cuda:${number}` | undefined
}

/**
 * Loads a Qwen2-VL checkpoint.
 *
 * @param source the folder with its files as published on the Hugging Face hub; the id of a model there, such as
 *   `Qwen/Qwen2-VL-2B-Instruct`, which is taken from the cache or downloaded into it; or `'tiny'` for the small
 *   checkpoint that comes with the package.
 */
export async function loadModel(
  source: string | URL,
  options: LoadModelOptions = {},
): Promise<Model> {
  const abort = new Abort()
  try {
    const checked = parseOptions(optionsSchema, options, {
      what: 'loadModel() options',
      example: "{ device: 'cpu' }",
    })
    if (checked.signal) abort.follow(checked.signal)
    abort.throwIfAborted()
    return await load(source, checked, abort)
  } finally {
    abort.close()
  }
}

async function load(source: string | URL, options: CheckedOptions, abort: Abort): Promise<Model> {
  const report = (progress: LoadProgress) => {
    if (abort.aborted) return
    try {
      options.onProgress?.(progress)
    } catch (error) {
      abort.abort(error) // a callback that fails ends the load
    }
  }
  const folder = await findFolder(source, options, abort, report)
  report({ phase: 'files', loadedBytes: 0, totalBytes: 0 })
  const checkpoint = await abort.race(openCheckpoint(folder))
  refuseConversionOfMapped(options, checkpoint)
  const media = mediaOptions(options, checkpoint)
  const binding = nativeBinding()
  const choice = await abort.race(chooseDevice(binding, checkpoint, options))
  const weights = loadWeights(binding, checkpoint, options, choice, abort, (progress) =>
    report({ phase: 'weights', ...progress }),
  )
  try {
    const [native, tokenizer] = await Promise.all([
      weights,
      abort.race(Tokenizer.load(checkpoint.tokenizerFiles)),
    ])
    abort.throwIfAborted()
    const { weightBytes } = native
    report({ phase: 'ready', loadedBytes: weightBytes, totalBytes: weightBytes })
    abort.throwIfAborted()
    return createModel({
      native,
      checkpoint,
      tokenizer,
      plan: choice.plan,
      media,
      dtype: choice.dtype ?? checkpoint.config.dtype ?? 'auto',
      weights: options.weights ?? 'packed',
      quantization: quantizationOf(options),
      deviceReason: choice.reason,
      promptLookupTokens: options.promptLookupTokens ?? DEFAULT_PROMPT_LOOKUP_TOKENS,
    })
  } catch (error) {
    // Whatever failed, no load goes on behind the caller's back and no weights stay.
    abort.abort(error)
    await weights.then(
      (native) => native.dispose(),
      () => {}, // not loaded: nothing to free
    )
    throw error
  }
}

/** What is mapped stays as it is stored. The core looks at every tensor; this is about the options alone. */
function refuseConversionOfMapped(options: CheckedOptions, { config }: Checkpoint): void {
  const { weights, dtype = 'auto' } = options
  if (weights !== 'mapped') return
  const { quantization, visionQuantization } = quantizationOf(options)
  if (quantization !== 'none' || visionQuantization !== 'none') {
    throw new InvalidArgumentError(
      `loadModel() options: weights: 'mapped' leaves the weights in their files as they are, so they cannot be ` +
        `quantised. Leave quantization and visionQuantization out, or use weights: 'packed'.`,
      { path: 'weights' },
    )
  }
  const stored = config.dtype
  if (dtype === 'auto' || stored === undefined || dtype === stored) return
  throw new InvalidArgumentError(
    `loadModel() options: weights: 'mapped' leaves the weights in their files, where they are ${stored}, so ` +
      `they cannot become ${dtype}. Leave dtype out, or use weights: 'packed'.`,
    { path: 'weights' },
  )
}

/** The checkpoint's folder; a model of the hub is downloaded where it has to be. */
async function findFolder(
  source: string | URL,
  options: CheckedOptions,
  abort: Abort,
  report: (progress: LoadProgress) => void,
): Promise<string> {
  const controller = new AbortController()
  const forget = abort.onAbort(() => controller.abort(abort.reason))
  try {
    return await findModelFolder(source, options, {
      signal: controller.signal,
      onProgress: ({ loadedBytes, totalBytes }) =>
        report({ phase: 'download', loadedBytes, totalBytes }),
    })
  } finally {
    forget()
  }
}

/** The rules for images and videos; the limits must make sense together with the checkpoint's. */
function mediaOptions(options: CheckedOptions, { preprocessor }: Checkpoint): MediaOptions {
  const { minPixels = preprocessor.minPixels, maxPixels = preprocessor.maxPixels } = options
  if (minPixels > maxPixels) {
    const path = options.minPixels === undefined ? 'maxPixels' : 'minPixels'
    throw new InvalidArgumentError(
      `loadModel() options: minPixels, ${minPixels}, is more than maxPixels, ${maxPixels}. What is ` +
        "not given is the checkpoint's.",
      { path },
    )
  }
  return toMediaOptions(options)
}

function loadWeights(
  binding: NativeBinding,
  checkpoint: Checkpoint,
  options: CheckedOptions,
  { cudaDevice, plan, dtype }: DeviceChoice,
  abort: Abort,
  onProgress: (progress: NativeLoadProgress) => void,
): Promise<NativeModel> {
  const loading = binding.loadModel(
    {
      weightFiles: checkpoint.weightFiles,
      config: toNativeConfig(checkpoint),
      cudaDevice,
      threads: options.threads ?? 0,
      instructionSet: process.env['QWEN2_VL_CPU'] ?? '',
      weightDtype: dtype ?? 'auto',
      weights: options.weights ?? 'packed',
      ...quantizationOf(options),
      kvDtype: plan.kvDtype,
      kvCacheTokens: plan.kvCacheTokens,
      maxContext: plan.contextSize,
      maxSequences: plan.maxConcurrency,
      maxQueue: options.maxQueue ?? 1024,
      prefillChunk:
        options.prefillChunk ?? DEFAULT_PREFILL_CHUNK[cudaDevice === null ? 'cpu' : 'cuda'],
      imageCacheBytes: options.imageCacheBytes ?? 2 ** 28,
    },
    onProgress,
  )
  abort.onAbort(() => loading.cancel())
  loading.promise.then(
    // The load may have ended before it noticed the cancel.
    (native) => void (abort.aborted && native.dispose()),
    () => {}, // the caller has it from the race
  )
  return abort.race(loading.promise).catch((error: unknown) => {
    throw abort.aborted ? error : fromNativeError(error)
  })
}
