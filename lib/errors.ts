/** The error classes of the package. Each has a stable `code`, and a message that ends with the way out. */

const brand = Symbol.for('qwen2-vl.error')

/** Facts about an error that a program can act on; every class documents its own. */
export type ErrorDetails = Readonly<Record<string, unknown>>

/** What an error is made with besides its message. */
export interface Qwen2VLErrorOptions {
  cause?: unknown
  details?: ErrorDetails
}

/** Base of every error the package throws. An abort is not one: it rejects with `signal.reason`. */
export class Qwen2VLError extends Error {
  /** Stable identifier, for example `ERR_IMAGE_DECODE`. */
  readonly code: string
  /** What was found, as data. */
  readonly details: ErrorDetails

  constructor(code: string, message: string, options: Qwen2VLErrorOptions = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined)
    this.name = new.target.name
    this.code = code
    this.details = options.details ?? {}
    Object.defineProperty(this, brand, { value: true })
  }

  /** True for errors of this package, also across copies of it in one process. */
  static isInstance(value: unknown): value is Qwen2VLError {
    return typeof value === 'object' && value !== null && brand in value
  }
}

/** A wrong or unknown option, or a malformed message. `path` says where, `suggestion` what was meant. */
export class InvalidArgumentError extends Qwen2VLError {
  readonly path: string | undefined
  readonly suggestion: string | undefined

  constructor(
    message: string,
    options: Qwen2VLErrorOptions & { path?: string; suggestion?: string } = {},
  ) {
    super('ERR_INVALID_ARGUMENT', message, options)
    this.path = options.path ?? stringDetail(options.details, 'path')
    this.suggestion = options.suggestion
  }
}

/** There is no checkpoint where one was named: no such folder, or no such model on the hub. */
export class ModelNotFoundError extends Qwen2VLError {
  /** The address that was asked, where one was. */
  readonly url: string | undefined
  /** The HTTP status, where there was an answer. */
  readonly status: number | undefined

  constructor(message: string, options?: Qwen2VLErrorOptions) {
    super('ERR_MODEL_NOT_FOUND', message, options)
    this.url = stringDetail(options?.details, 'url')
    this.status = numberDetail(options?.details, 'status')
  }
}

/** A model could not be brought onto the disk (`ERR_DOWNLOAD_*`). */
export class DownloadError extends Qwen2VLError {
  /** The address at fault, without its query, which may hold a signature. */
  readonly url: string | undefined
  /** The HTTP status, where there was an answer. */
  readonly status: number | undefined
  /** Whether the same call later goes on where this one ended. */
  readonly resumable: boolean

  constructor(
    code: `ERR_DOWNLOAD_${string}` | 'ERR_CHECKSUM',
    message: string,
    options: Qwen2VLErrorOptions & { resumable?: boolean } = {},
  ) {
    super(code, message, options)
    this.url = stringDetail(options.details, 'url')
    this.status = numberDetail(options.details, 'status')
    this.resumable = options.resumable ?? false
  }
}

/** What was downloaded is not what the hub says it is (`ERR_CHECKSUM`). It has been thrown away. */
export class ChecksumError extends DownloadError {
  constructor(message: string, options: Qwen2VLErrorOptions = {}) {
    super('ERR_CHECKSUM', message, options)
  }
}

/** A checkpoint folder that is incomplete, damaged or inconsistent (`ERR_CHECKPOINT_*`). */
export class CheckpointError extends Qwen2VLError {
  /** The file at fault, where one is. */
  readonly file: string | undefined
  /** The tensor at fault, where one is. */
  readonly tensor: string | undefined

  constructor(
    code: `ERR_CHECKPOINT_${string}`,
    message: string,
    options: Qwen2VLErrorOptions = {},
  ) {
    super(code, message, options)
    this.file = stringDetail(options.details, 'file')
    this.tensor = stringDetail(options.details, 'tensor')
  }
}

/** A checkpoint of another architecture, or of a kind this version cannot run. */
export class UnsupportedModelError extends Qwen2VLError {
  readonly architecture: string | undefined

  constructor(message: string, options: Qwen2VLErrorOptions = {}) {
    super('ERR_UNSUPPORTED_MODEL', message, options)
    this.architecture = stringDetail(options.details, 'architecture')
  }
}

/** The native part cannot be had or failed (`ERR_NO_BINARY`, `ERR_BACKEND_UNAVAILABLE`, `ERR_NUMERICS`, `ERR_INTERNAL`). */
export class BackendError extends Qwen2VLError {}

/** An image that cannot be used (`ERR_IMAGE_DECODE`, `ERR_IMAGE_TOO_LARGE`, `ERR_ASPECT_RATIO`, ...). */
export class ImageError extends Qwen2VLError {
  /** Which image of the request, counted from 0 in order of appearance. */
  readonly index: number | undefined

  constructor(code: string, message: string, options: Qwen2VLErrorOptions = {}) {
    super(code, message, options)
    this.index = numberDetail(options.details, 'index')
  }
}

/** A video that cannot be used (`ERR_VIDEO_*`). */
export class VideoError extends Qwen2VLError {}

/** An address that was not fetched, or gave nothing usable (`ERR_FETCH_*`). */
export class FetchError extends Qwen2VLError {
  /** Scheme, host and path of the address at fault; credentials and query are left out. */
  readonly url: string | undefined
  /** The HTTP status, where there was an answer. */
  readonly status: number | undefined
  /** Which image or video of the request, counted from 0 in order of appearance. */
  readonly index: number | undefined

  constructor(code: `ERR_FETCH_${string}`, message: string, options: Qwen2VLErrorOptions = {}) {
    super(code, message, options)
    this.url = stringDetail(options.details, 'url')
    this.status = numberDetail(options.details, 'status')
    this.index = numberDetail(options.details, 'index')
  }
}

/** Prompt and answer do not fit into the context. */
export class ContextLengthError extends Qwen2VLError {
  /** All tokens of the prompt, and those of them that stand for images and videos. */
  readonly promptTokens: number | undefined
  readonly imageTokens: number | undefined
  /** The most tokens of prompt and answer together. */
  readonly limit: number | undefined

  constructor(message: string, options?: Qwen2VLErrorOptions) {
    super('ERR_CONTEXT_LENGTH', message, options)
    this.promptTokens = numberDetail(options?.details, 'promptTokens')
    this.imageTokens = numberDetail(options?.details, 'imageTokens')
    this.limit = numberDetail(options?.details, 'limit')
  }
}

/** Memory is not to be had. `details`: `requiredBytes`, `availableBytes` where known. */
export class OutOfMemoryError extends Qwen2VLError {
  constructor(message: string, options?: Qwen2VLErrorOptions) {
    super('ERR_OUT_OF_MEMORY', message, options)
  }
}

/** A schema, pattern or grammar that cannot be guaranteed, or that nothing satisfies. */
export class SchemaError extends Qwen2VLError {
  /** Where in the schema, as a JSON pointer: `#/properties/age/multipleOf`. */
  readonly schemaPath: string | undefined

  constructor(message: string, options?: Qwen2VLErrorOptions) {
    super('ERR_SCHEMA', message, options)
    this.schemaPath = stringDetail(options?.details, 'schemaPath')
  }
}

/** More requests are waiting than `maxQueue` allows. */
export class QueueFullError extends Qwen2VLError {
  /** How many are running or waiting. */
  readonly queued: number | undefined
  /** About when a place will be free, judged by the requests before; undefined where none has ended. */
  readonly retryAfterMs: number | undefined

  constructor(message: string, options?: Qwen2VLErrorOptions) {
    super('ERR_QUEUE_FULL', message, options)
    this.queued = numberDetail(options?.details, 'queued')
    this.retryAfterMs = numberDetail(options?.details, 'retryAfterMs')
  }
}

/** The answer was not there after `timeoutMs`. */
export class TimeoutError extends Qwen2VLError {
  readonly timeoutMs: number

  constructor(timeoutMs: number) {
    super(
      'ERR_TIMEOUT',
      `The answer was not complete after ${timeoutMs} ms. Raise timeoutMs, lower maxTokens, or set ` +
        `onAbort: 'return' to get the part that is there.`,
      { details: { timeoutMs } },
    )
    this.timeoutMs = timeoutMs
  }
}

/** The model was used after, or was running at, `dispose()`. */
export class DisposedError extends Qwen2VLError {
  constructor(
    message = 'The model has been disposed. Load it again with loadModel().',
    options?: Qwen2VLErrorOptions,
  ) {
    super('ERR_DISPOSED', message, options)
  }
}

/**
 * Turns an error of the addon (`code` and `details` set by native/addon) into the class users test
 * for. Anything else is returned as it is.
 */
export function fromNativeError(error: unknown): unknown {
  if (!(error instanceof Error) || Qwen2VLError.isInstance(error)) return error
  const { code, details } = error as Error & { code?: unknown; details?: ErrorDetails }
  if (typeof code !== 'string' || !code.startsWith('ERR_')) return error
  const options: Qwen2VLErrorOptions = { cause: error, details: details ?? {} }
  const message = error.message
  if (code === 'ERR_CHECKPOINT_UNSUPPORTED') return new UnsupportedModelError(message, options)
  if (code.startsWith('ERR_CHECKPOINT_')) {
    return new CheckpointError(code as `ERR_CHECKPOINT_${string}`, message, options)
  }
  if (code.startsWith('ERR_IMAGE_')) return new ImageError(code, message, options)
  if (code.startsWith('ERR_GRAMMAR_')) return new SchemaError(message, options)
  if (code.startsWith('ERR_VIDEO_')) return new VideoError(code, message, options)
  switch (code) {
    case 'ERR_INVALID_ARGUMENT':
    case 'ERR_PROMPT_VISION_MISMATCH':
      return new InvalidArgumentError(message, options)
    case 'ERR_CONTEXT_LENGTH':
      return new ContextLengthError(message, options)
    case 'ERR_OUT_OF_MEMORY':
      return new OutOfMemoryError(message, options)
    case 'ERR_QUEUE_FULL':
      return new QueueFullError(message, options)
    case 'ERR_DISPOSED':
      return new DisposedError(message, options)
    default:
      return new BackendError(code, message, options)
  }
}

function numberDetail(details: ErrorDetails | undefined, key: string): number | undefined {
  const value = details?.[key]
  return typeof value === 'number' ? value : undefined
}

function stringDetail(details: ErrorDetails | undefined, key: string): string | undefined {
  const value = details?.[key]
  return typeof value === 'string' ? value : undefined
}
