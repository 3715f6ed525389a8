/** What a caller sees of a whole model: load, pictures, prefill, decode, memory, the event loop. */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { openCheckpoint, type Checkpoint } from '../checkpoint/checkpoint.js'
import type { GenerateRequest } from '../generation/options.js'
import type { GenerateResult } from '../generation/result.js'
import { loadModel, type LoadModelOptions } from '../load-model.js'
import type { Model } from '../model.js'
import type { ImageInfo } from '../processor/image.js'
import { modelledStep, usedMemory, type GpuUnderTest } from './gpu-under-test.js'
import { makePicture, measurePreparation } from './pictures.js'
import type { Measurement, Timed } from './report.js'
import { type Stopwatch } from './stopwatch.js'
import { decodeWork, prefillWork, visionWork, type LoadedModel } from './work.js'

/** How the model is loaded. */
export type LoadOptions = Pick<
  LoadModelOptions,
  'device' | 'threads' | 'quantization' | 'visionQuantization' | 'activations'
>

/** Which rows are measured. */
export interface ModelPlan {
  /** Only rows whose name has this. */
  filter: string
  pictures: [width: number, height: number][]
  prompts: number[]
  /** Sequences at once, and tokens in the cache of each. */
  decodes: [sequences: number, context: number][]
  loads: number
}

export const fullPlan: Omit<ModelPlan, 'filter'> = {
  pictures: [
    [448, 448],
    [1024, 768],
    [1792, 1344],
  ],
  prompts: [128, 512, 4096],
  decodes: [
    [1, 32],
    [4, 32],
    [8, 32],
    [16, 32],
    [1, 8192],
    [4, 8192],
    [16, 8192],
  ],
  loads: 3,
}

export const quickPlan: Omit<ModelPlan, 'filter'> = {
  pictures: [[448, 448]],
  prompts: [128, 512],
  decodes: [
    [1, 32],
    [8, 32],
  ],
  loads: 1,
}

/** The rows, and the model they are of. */
export interface ModelFigures {
  info: Model['info']
  measurements: Measurement[]
}

/** Tokens of an answer whose speed is measured. */
const ANSWER_TOKENS = 32

/** Loads a checkpoint and measures it. Rows that its context has no room for are left out. */
export async function measureModel(
  source: string,
  options: LoadOptions,
  plan: ModelPlan,
  stopwatch: Stopwatch,
  gpu: GpuUnderTest | undefined,
): Promise<ModelFigures> {
  const checkpoint = await openCheckpoint(source)
  const loads = await measureLoads(source, options, plan)
  await using model = await loadModel(source, options)
  const rows = await new ModelBench(model, checkpoint, plan, stopwatch, gpu).run()
  // The limits are not measured between loads, which would raise the peak of memory.
  await stopwatch.sample(loads.limits)
  return { info: model.info, measurements: [...loadRows(loads, model.info), ...rows] }
}

const LOAD_ROWS = ['load', 'load to the first token'] as const

interface Loads {
  load: number[]
  toFirstToken: number[]
  limits: Timed['limits']
}

/** Loads again and again, each time to the first token of a short prompt; nothing stays loaded. */
async function measureLoads(
  source: string,
  options: LoadOptions,
  { filter, loads: count }: ModelPlan,
): Promise<Loads> {
  const loads: Loads = { load: [], toFirstToken: [], limits: [] }
  const isWanted = LOAD_ROWS.some((name) => name.includes(filter))
  for (let i = 0; isWanted && i < count; i++) {
    const begin = performance.now()
    await using model = await loadModel(source, options)
    loads.load.push((performance.now() - begin) / 1000)
    await model.generate({ prompt: 'Hello', maxTokens: 1 })
    loads.toFirstToken.push((performance.now() - begin) / 1000)
  }
  return loads
}

function loadRows({ load, toFirstToken, limits }: Loads, info: Model['info']): Measurement[] {
  if (load.length === 0) return []
  const work = { bytes: info.weightBytes, fp32: 0, int8: 0 }
  const row = (name: string, seconds: number[]): Measurement => ({
    ...{ section: 'model', name, timed: { seconds, limits }, unit: 's', work, isOfHost: true },
  })
  return [row(LOAD_ROWS[0], load), row(LOAD_ROWS[1], toFirstToken)]
}

class ModelBench {
  readonly #model: Model
  readonly #checkpoint: Checkpoint
  readonly #plan: ModelPlan
  readonly #stopwatch: Stopwatch
  readonly #gpu: GpuUnderTest | undefined
  readonly #measurements: Measurement[] = []

  constructor(
    model: Model,
    checkpoint: Checkpoint,
    plan: ModelPlan,
    stopwatch: Stopwatch,
    gpu: GpuUnderTest | undefined,
  ) {
    this.#model = model
    this.#checkpoint = checkpoint
    this.#plan = plan
    this.#stopwatch = stopwatch
    this.#gpu = gpu
  }

  async run(): Promise<Measurement[]> {
    // Before anything else takes memory: weights, a text and one picture.
    await this.#measureMemory(1024, 768)
    const { pictures, prompts, decodes } = this.#plan
    for (const [width, height] of pictures) await this.#measurePreparation(width, height)
    for (const [width, height] of pictures) await this.#measureVision(width, height)
    for (const tokens of prompts) await this.#measurePrefill(tokens)
    for (const [sequences, context] of decodes) await this.#measureDecode(sequences, context)
    await this.#measureEventLoop(512)
    return this.#measurements
  }

  /** Whether the row is wanted, and the context has room for its tokens. */
  #wants(name: string, tokens: number): boolean {
    return (
      name.includes(this.#plan.filter) && tokens + ANSWER_TOKENS <= this.#model.info.contextSize
    )
  }

  async #measureMemory(width: number, height: number): Promise<void> {
    const name = `peak memory, text and a picture of ${width}×${height}`
    const request = pictureRequest(width, height)
    if (!this.#wants(name, (await this.#model.countTokens(request)).promptTokens)) return
    await this.#model.generate(request)
    const value = (process.resourceUsage().maxRSS * 1024) / 1e9
    const weights = this.#model.info.weightBytes / 1e9
    const row = (what: string, used: number): Measurement => ({
      ...{ section: 'model', name: name.replace('memory', what), value: used, unit: 'GB' },
      ...{ fraction: weights / used, limit: 'weights' },
    })
    if (!this.#gpu) {
      this.#measurements.push(row('memory', value))
      return
    }
    // The pool of the GPU's memory keeps what the peak took.
    this.#measurements.push(
      { section: 'model', name: name.replace('memory', 'memory of the host'), value, unit: 'GB' },
      row('memory of the GPU', (await usedMemory(this.#gpu)) / 1e9),
    )
  }

  async #measurePreparation(width: number, height: number): Promise<void> {
    if (!this.#wants(`image preparation ${width}×${height}, JPEG`, 0)) return
    const { preprocessor } = this.#checkpoint
    this.#measurements.push(
      ...(await measurePreparation(this.#stopwatch, preprocessor, width, height)),
    )
  }

  async #measureVision(width: number, height: number): Promise<void> {
    const name = `vision encode ${width}×${height}`
    const request = pictureRequest(width, height)
    const { promptTokens, images } = await this.#model.countTokens(request)
    if (!this.#wants(name, promptTokens)) return
    const { visionFlops } = await this.#model.estimate(request)
    const timed = await this.#stopwatch.time(
      async () => (await this.#model.generate(request)).timings.visionMs / 1000,
    )
    this.#measurements.push({
      ...{ section: 'model', name, timed, unit: 's' },
      work: visionWork(this.#loaded(), patchesOf(images), visionFlops),
    })
  }

  async #measurePrefill(tokens: number): Promise<void> {
    const name = `prefill ${tokens}`
    if (!this.#wants(name, tokens)) return
    const request = { ...this.#textRequest(tokens), maxTokens: 1, cache: false }
    const { prefillFlops, promptTokens } = await this.#model.estimate(request)
    const timed = await this.#stopwatch.time(
      async () => (await this.#model.generate(request)).timings.prefillMs / 1000,
    )
    this.#measurements.push({
      ...{ section: 'model', name, timed, unit: 'tokens/s', amount: promptTokens },
      work: prefillWork(this.#loaded(), promptTokens, prefillFlops),
    })
  }

  /** The prompt comes from the prefix cache but for its last tokens, so all sequences begin together. */
  async #measureDecode(sequences: number, context: number): Promise<void> {
    const what = context > 32 ? `, context ${context}` : ''
    const name = `decode, ${sequences} sequence${sequences > 1 ? 's' : ''}${what}`
    if (!this.#wants(name, context + 1)) return
    const request = this.#textRequest(context + 1)
    await this.#model.generate({ ...request, maxTokens: 1 })
    const timed = await this.#stopwatch.time(async () => {
      const answers = Array.from({ length: sequences }, () => this.#model.generate(request))
      return secondsOfStep(await Promise.all(answers))
    })
    const cached = context + ANSWER_TOKENS / 2
    // The kernels' model knows steps of one sequence.
    const modelled =
      this.#gpu && sequences === 1 ? modelledStep(this.#gpu, this.#loaded(), cached) : undefined
    this.#measurements.push({
      ...{ section: 'model', name, timed, unit: 'tokens/s', amount: sequences },
      work: decodeWork(this.#loaded(), sequences, cached),
      ...(modelled !== undefined && { modelled }),
    })
  }

  #loaded(): LoadedModel {
    const { dtype, quantization, kvCache } = this.#model.info
    const { config } = this.#checkpoint
    return { config, dtype, quantization, kvBytesPerToken: kvCache.bytesPerToken }
  }

  /** How late timers are while the model prefills, beside a process that rests. */
  async #measureEventLoop(tokens: number): Promise<void> {
    const name = 'event-loop delay, 99th percentile'
    if (!this.#wants(name, tokens)) return
    const busy = () =>
      this.#model.generate({ ...this.#textRequest(tokens), maxTokens: 1, cache: false })
    for (const [what, work] of [
      ['idle', () => sleep(500)],
      [`prefill ${tokens}`, busy],
    ] as const) {
      const histogram = monitorEventLoopDelay({ resolution: 1 })
      histogram.enable()
      await work()
      histogram.disable()
      const value = histogram.percentile(99) / 1e6
      this.#measurements.push({ section: 'model', name: `${name}, ${what}`, value, unit: 'ms' })
    }
  }

  /** A prompt of exactly so many tokens, where a word is one or a power of two of them. */
  #textRequest(tokens: number): GenerateRequest {
    const word = ' one'
    const { tokenizer } = this.#model
    const length = tokenizer.encode(word.repeat(8)).length / 8
    const words = Math.max(Math.floor(tokens / length), 1)
    const prompt = word.repeat(words)
    const rest = tokens - tokenizer.encode(prompt).length
    // No token that ends the answer: all of it is measured.
    const { generation, config } = this.#checkpoint
    const ends = generation.eosTokenIds ?? config.eosTokenIds
    const logitBias = Object.fromEntries(ends.map((id) => [String(id), -100]))
    return {
      ...{ prompt: prompt + '\n'.repeat(Math.max(rest, 0)), logitBias },
      ...{ maxTokens: ANSWER_TOKENS, temperature: 0 },
      // A token a step: how often guesses come true is the answer's affair, not the machine's.
      promptLookupTokens: 0,
    }
  }
}

function pictureRequest(width: number, height: number): GenerateRequest {
  const content = [{ type: 'image' as const, image: makePicture(width, height) }]
  return { messages: [{ role: 'user', content }], maxTokens: 1, cache: false }
}

/** The time of a step, from answers that were made in the same steps. */
function secondsOfStep(answers: readonly GenerateResult[]): number {
  const steps = answers.map(
    ({ timings, tokenIds }) => timings.decodeMs / 1000 / (tokenIds.length - 1),
  )
  return steps.reduce((sum, step) => sum + step, 0) / steps.length
}

function patchesOf(images: readonly ImageInfo[]): number {
  const side = 14
  return images.reduce(
    (sum, image) => sum + (image.resizedWidth * image.resizedHeight) / side ** 2,
    0,
  )
}
