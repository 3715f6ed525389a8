/** Run Qwen2-VL checkpoints in Node.js. Start with {@link loadModel}. */
export { loadModel, type LoadModelOptions, type LoadProgress } from './load-model.js'
export {
  downloadModel,
  type DownloadedModel,
  type DownloadModelOptions,
} from './hub/download-model.js'
export type { HubSource } from './hub/settings.js'
export type { DownloadFile, DownloadProgress } from './hub/progress.js'
export {
  listModels,
  removeModel,
  type CachedModel,
  type CacheOptions,
} from './hub/cached-models.js'
export type { MemoryEstimate } from './generation/estimate.js'
export type { Quantization } from './quantization.js'
export type { ChatTemplateOptions, Model, ModelInfo, ModelMetrics } from './model.js'
export {
  quantizeCheckpoint,
  type QuantizeCheckpointOptions,
  type QuantizedCheckpoint,
  type QuantizeProgress,
} from './quantize-checkpoint.js'
export type { StoredQuantization } from './quantization.js'
export type { BatchOptions } from './generation/batch.js'
export type { TokenLogprob, TopLogprob } from './generation/logprobs.js'
export type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionFinishReason,
  ChatCompletionLogprobs,
  ChatCompletionTopLogprob,
  ChatCompletionUsage,
} from './generation/openai.js'
export type {
  EffectiveOptions,
  FormatOption,
  GenerateRequest,
  PromptInput,
  RequestOptions,
} from './generation/options.js'
export type {
  Chat,
  ChatContent,
  ChatJson,
  ChatOptions,
  ToolMessage,
  TurnOptions,
} from './chat-session.js'
export {
  annotate,
  type AnnotateOptions,
  type AnnotateSource,
  type Annotation,
  type PlacedAnnotation,
} from './grounding/annotate.js'
export {
  scaleTo,
  type Box,
  type Corners,
  type Grounding,
  type NormalizedGrounding,
  type Outline,
  type PictureSize,
  type Point,
  type Position,
  type Quad,
} from './grounding/geometry.js'
export {
  parseBoxes,
  parseGrounding,
  type ParseBoxesOptions,
  type ParsedGrounding,
} from './grounding/parse.js'
export type {
  Choice,
  FinishReason,
  GenerateResult,
  GenerationEvent,
  OfChoice,
  ImageResult,
  Timings,
  TokenCount,
  ToolCall,
  Usage,
} from './generation/result.js'
export type { GridThw, ProcessedPrompt, Processor } from './generation/processor.js'
export type { PrepareImageOptions } from './generation/prepare-image.js'
export type { GenerationStream } from './generation/stream.js'
export type {
  ChatMessage,
  ContentPart,
  ImagePart,
  FilePart,
  ImageUrlPart,
  RawPrompt,
  TextPart,
  MessageToolCall,
  VideoUrlPart,
} from './chat/messages.js'
export type { FunctionTool, ToolChoice, ToolDefinition } from './chat/tools.js'
export type {
  JsonSchemaFormat,
  ObjectOf,
  OutputOf,
  ResponseFormat,
} from './constraint/response-format.js'
export type {
  JsonSchema,
  SchemaSource,
  StandardIssue,
  StandardResult,
  StandardSchema,
} from './constraint/schema-source.js'
export type { SnakeCasePixelOptions } from './chat/pixel-options.js'
export type { VideoPart } from './chat/video-part.js'
export type { ImageInfo, PixelOptions } from './processor/image.js'
export type { VideoProfile } from './processor/sampling.js'
export type { PreparedImage } from './processor/prepared-image.js'
export type { ByteStream } from './processor/byte-stream.js'
export type { BufferSource, ImageSource, RawImageSource, RawPixels } from './processor/source.js'
export type { VideoFrame, VideoInfo, VideoOptions, VideoSource } from './processor/video.js'
export type { VideoFileSource } from './processor/video-source.js'
export type { StreamingDecoder } from './tokenizer/streaming-decoder.js'
export type { DecodeOptions, EncodeOptions, Tokenizer } from './tokenizer/tokenizer.js'
export {
  BackendError,
  CheckpointError,
  ChecksumError,
  ContextLengthError,
  DisposedError,
  DownloadError,
  FetchError,
  ImageError,
  InvalidArgumentError,
  ModelNotFoundError,
  OutOfMemoryError,
  Qwen2VLError,
  QueueFullError,
  SchemaError,
  TimeoutError,
  UnsupportedModelError,
  VideoError,
  type ErrorDetails,
  type Qwen2VLErrorOptions,
} from './errors.js'
