/** A whole model: load, image, prefill, decode, memory, and how free the event loop stays meanwhile. */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { openCheckpoint } from '../lib/checkpoint/checkpoint.js'
import { loadModel, type GenerateResult, type Model } from '../lib/index.js'
import type { Machine, Row } from './report.js'

export async function benchModel(folder: string, machine: Machine): Promise<Row[]> {
  const rows: Row[] = []
  const { config } = await openCheckpoint(folder)
  const headDim = config.hiddenSize / config.numHeads
  const layerWeights =
    config.hiddenSize * (2 * config.hiddenSize + 2 * config.numKvHeads * headDim) +
    3 * config.hiddenSize * config.intermediateSize
  const headWeights = config.vocabSize * config.hiddenSize
  const decodeBytes = 2 * (config.numLayers * layerWeights + headWeights)

  const begin = performance.now()
  await using model = await loadModel(folder)
  rows.push({ name: 'load', value: (performance.now() - begin) / 1000, unit: 's' })

  await ask(model, 16, 2) // touches every weight once
  for (const tokens of [128, 512]) {
    const { usage, timings } = await ask(model, tokens, 1)
    const perSecond = usage.promptTokens / (timings.prefillMs / 1000)
    rows.push({
      name: `prefill, ${usage.promptTokens} tokens`,
      value: perSecond,
      unit: 'tokens/s',
      fraction: (perSecond * 2 * config.numLayers * layerWeights) / (machine.fma_gflop_per_s * 1e9),
      limit: 'arithmetic',
    })
  }
  for (const sequences of [1, 4]) {
    const results = await Promise.all(Array.from({ length: sequences }, () => ask(model, 32, 24)))
    const perSecond = results.reduce((sum, { timings }) => sum + timings.tokensPerSecond, 0)
    rows.push({
      name: `decode, ${sequences} sequence${sequences > 1 ? 's' : ''}`,
      value: perSecond,
      unit: 'tokens/s',
      ...(sequences === 1 && {
        fraction: (perSecond * decodeBytes) / (machine.read_gb_per_s * 1e9),
        limit: 'memory' as const,
      }),
    })
  }
  rows.push(...(await benchEventLoop(model)))

  const image = await askAboutImage(model, 448, 448)
  rows.push({ name: 'image 448×448: prepare', value: image.timings.preprocessMs, unit: 'ms' })
  rows.push({
    name: 'image 448×448: vision tower',
    value: image.timings.visionMs / 1000,
    unit: 's',
  })
  rows.push({ name: 'peak memory', value: process.resourceUsage().maxRSS / 1e6, unit: 'GB' })
  return rows
}

/** Delay of the event loop while the model prefills, against an idle process. */
async function benchEventLoop(model: Model): Promise<Row[]> {
  const measure = async (work: Promise<unknown>) => {
    const histogram = monitorEventLoopDelay({ resolution: 1 })
    histogram.enable()
    await work
    histogram.disable()
    return histogram.percentile(99) / 1e6
  }
  const idle = await measure(new Promise((resolve) => setTimeout(resolve, 1000)))
  const busy = await measure(ask(model, 512, 1))
  return [
    { name: 'event-loop delay p99, idle', value: idle, unit: 'ms' },
    { name: 'event-loop delay p99, prefill of 512', value: busy, unit: 'ms' },
  ]
}

/** About `promptTokens` tokens of prompt: the word " one" is one token of the Qwen2 vocabulary. */
function ask(model: Model, promptTokens: number, maxTokens: number): Promise<GenerateResult> {
  const templateTokens = 20
  const text = 'one' + ' one'.repeat(Math.max(promptTokens - templateTokens - 1, 0))
  return model.generate({ messages: [{ role: 'user', content: text }], maxTokens, temperature: 0 })
}

function askAboutImage(model: Model, width: number, height: number): Promise<GenerateResult> {
  const data = Uint8Array.from({ length: width * height * 3 }, (_, i) => (i * 7 + (i >> 9)) & 255)
  return model.generate({
    messages: [
      { role: 'user', content: [{ type: 'image', image: { data, width, height, channels: 3 } }] },
    ],
    maxTokens: 1,
  })
}
