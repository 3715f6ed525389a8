/** `qwen2-vl ask <image...> "question"`: one request, streamed to a terminal. */
import { writeFile } from 'node:fs/promises'
import { extname } from 'node:path'
import { Command } from 'commander'
import pc from 'picocolors'
import type { ChatMessage, ContentPart } from '../chat/messages.js'
import type { VideoPart } from '../chat/video-part.js'
import { InvalidArgumentError } from '../errors.js'
import { annotate } from '../grounding/annotate.js'
import { loadModel, type LoadProgress } from '../load-model.js'
import type { GenerateRequest } from '../generation/options.js'
import type { GenerateResult } from '../generation/result.js'
import { integer, number } from './numbers.js'
import { addWeightOptions, weightOptions, type WeightOptions } from './weight-options.js'

interface AskOptions extends WeightOptions {
  model: string
  video?: string[]
  fps?: number
  nframes?: number
  system?: string
  maxTokens?: number
  temperature?: number
  topP?: number
  topK?: number
  seed?: number
  minPixels?: number
  maxPixels?: number
  threads?: number
  annotate?: string
  json?: true
}

export function askCommand(): Command {
  const command = new Command('ask')
    .description('Ask a question about images or a video and stream the answer')
    .argument('[image...]', 'picture files, then the question as the last argument')
    .option(
      '-m, --model <source>',
      'checkpoint folder, owner/name of a model of the hub, or "tiny" for the bundled one',
      'tiny',
    )
    .option(
      '--video <files...>',
      'a video file, or the pictures that are the frames of one, in order',
    )
    .option('--fps <rate>', 'frames taken of a second of the video file (default 2)', number)
    .option('--nframes <count>', 'frames taken of the video file in all', integer)
    .option('--system <text>', 'system prompt')
    .option('-n, --max-tokens <count>', 'length limit of the answer', integer)
    .option('-t, --temperature <value>', '0 = greedy', number)
    .option('--top-p <value>', 'nucleus sampling', number)
    .option('--top-k <count>', 'sample among the k best tokens', integer)
    .option('--seed <number>', 'makes sampling reproducible', integer)
    .option('--min-pixels <count>', 'enlarge smaller pictures to at least this area', integer)
    .option('--max-pixels <count>', 'shrink larger pictures to at most this area', integer)
    .option('--threads <count>', 'default: the physical cores of this process', integer)
    .option('--annotate <file>', 'write the picture with the boxes of the answer: .png or .jpg')
    .option('--json', 'print the whole result as JSON instead of streaming the text')
    .addHelpText(
      'after',
      `\nExamples:\n  $ qwen2-vl ask receipt.jpg "What is the total?"\n` +
        `  $ qwen2-vl ask --model ./Qwen2-VL-2B-Instruct a.png b.png "What differs?" --json | jq .text\n` +
        `  $ qwen2-vl ask --video clip.mp4 --nframes 16 "What happens?"\n` +
        `  $ qwen2-vl ask street.jpg "Locate the red car." --annotate boxes.png`,
    )
    .action(ask)
  return addWeightOptions(command)
}

async function ask(given: string[], givenOptions: AskOptions): Promise<void> {
  const { args, options } = withQuestion(given, givenOptions)
  const drawing =
    options.annotate === undefined ? undefined : toDrawing(args, options.annotate, options)
  const controller = new AbortController()
  const interrupt = () => controller.abort()
  process.once('SIGINT', interrupt)
  const showProgress = process.stderr.isTTY && !options.json
  try {
    await using model = await loadModel(options.model, {
      signal: controller.signal,
      ...(options.threads !== undefined && { threads: options.threads }),
      ...weightOptions(options),
      ...(showProgress && { onProgress: printProgress }),
    })
    if (showProgress) process.stderr.write('\r\x1b[K')
    const request = toRequest(args, options, controller.signal)
    if (options.json) {
      const result = await model.generate(request)
      if (drawing) await drawing(result)
      process.stdout.write(JSON.stringify(toJson(result, model.info), null, 2) + '\n')
      return
    }
    const stream = model.stream(request)
    for await (const text of stream.textStream) process.stdout.write(text)
    process.stdout.write('\n')
    if (drawing) await drawing(await stream.result)
    if (showProgress) process.stderr.write(pc.dim(summary(await stream.result)) + '\n')
  } finally {
    process.off('SIGINT', interrupt)
  }
}

const formats: Readonly<Record<string, 'png' | 'jpeg'>> = {
  '.png': 'png',
  '.jpg': 'jpeg',
  '.jpeg': 'jpeg',
}

/**
 * What draws the boxes of an answer into a file.
 *
 * @throws InvalidArgumentError, before anything is loaded, if it cannot be done.
 */
function toDrawing(
  args: string[],
  file: string,
  { video }: AskOptions,
): (result: GenerateResult) => Promise<void> {
  const [image, ...others] = args.slice(0, -1)
  if (image === undefined || others.length > 0 || video !== undefined) {
    throw new InvalidArgumentError(
      '--annotate draws on one picture, so it needs exactly one and no video.',
      { path: 'annotate' },
    )
  }
  const extension = extname(file).toLowerCase()
  const format = formats[extension]
  if (format === undefined) {
    throw new InvalidArgumentError(
      `--annotate ${file}: the name must end in .png, .jpg or .jpeg.`,
      { path: 'annotate' },
    )
  }
  return async ({ boxes }) => {
    const drawn = await annotate(image, boxes, { format })
    try {
      await writeFile(file, drawn)
    } catch (cause) {
      throw new InvalidArgumentError(
        `--annotate ${file}: cannot be written (${(cause as Error).message}).`,
        { path: 'annotate', cause },
      )
    }
    if (boxes.length === 0) {
      process.stderr.write(`The answer has no boxes; ${file} is the picture as it is.\n`)
    }
  }
}

function toRequest(args: string[], options: AskOptions, signal: AbortSignal): GenerateRequest {
  const question = args.at(-1) ?? ''
  const pixels = {
    ...(options.minPixels !== undefined && { minPixels: options.minPixels }),
    ...(options.maxPixels !== undefined && { maxPixels: options.maxPixels }),
  }
  const content: ContentPart[] = args
    .slice(0, -1)
    .map((image) => ({ type: 'image', image, ...pixels }))
  if (options.video) content.push({ ...toVideo(options.video, options), ...pixels })
  content.push({ type: 'text', text: question })
  const messages: ChatMessage[] = [{ role: 'user', content }]
  if (options.system !== undefined) messages.unshift({ role: 'system', content: options.system })
  return {
    messages,
    signal,
    ...(options.maxTokens !== undefined && { maxTokens: options.maxTokens }),
    ...(options.temperature !== undefined && { temperature: options.temperature }),
    ...(options.topP !== undefined && { topP: options.topP }),
    ...(options.topK !== undefined && { topK: options.topK }),
    ...(options.seed !== undefined && { seed: options.seed }),
  }
}

/** One file is a video, several are its frames. */
function toVideo(files: string[], { fps, nframes }: AskOptions): VideoPart {
  const [file] = files
  return {
    type: 'video',
    video: files.length === 1 && file !== undefined ? file : files,
    ...(fps !== undefined && { fps }),
    ...(nframes !== undefined && { nframes }),
  }
}

/**
 * The option --video takes all that follows it; where nothing else is there, the last of it is the
 * question.
 */
function withQuestion(
  args: readonly string[],
  options: AskOptions,
): { args: string[]; options: AskOptions } {
  const { video } = options
  const question = video?.at(-1)
  if (args.length === 0 && (video === undefined || video.length < 2)) {
    throw new InvalidArgumentError('The question is missing. Write it as the last argument.', {
      path: 'question',
    })
  }
  if (args.length > 0 || video === undefined || question === undefined || video.length < 2) {
    return { args: [...args], options }
  }
  return { args: [question], options: { ...options, video: video.slice(0, -1) } }
}

function toJson(result: GenerateResult, info: object): object {
  return { ...result, model: info }
}

function summary({ usage, timings, images, videos }: GenerateResult): string {
  const sizes = images.map((image) => `${image.width}×${image.height} → ${image.tokens} tokens`)
  const films = videos.map((video) => `${video.frames} frames → ${video.tokens} tokens`)
  return [
    ...sizes,
    ...films,
    `${usage.promptTokens} prompt tokens, first token after ${timings.firstTokenMs.toFixed(0)} ms`,
    `${usage.completionTokens} tokens at ${timings.tokensPerSecond.toFixed(1)} tokens/s`,
  ].join(' · ')
}

function printProgress({ phase, loadedBytes, totalBytes }: LoadProgress): void {
  const percent = totalBytes > 0 ? Math.floor((100 * loadedBytes) / totalBytes) : 0
  process.stderr.write(`\r\x1b[K${pc.dim(`${phase} ${percent} %`)}`)
}
