/**
 * This package, built: `npx tsx bench/peers/qwen2-vl.ts <checkpoint folder> [int8|int4]`.
 * Prints a line of JSON for each case.
 */
import { loadModel, type GenerateRequest, type LoadModelOptions } from '../../lib/index.js'
import { cases, decodePrompt, decodeTokens, print } from './cases.js'

const [folder, quantization] = process.argv.slice(2)
if (folder === undefined) throw new Error('usage: qwen2-vl.ts <checkpoint folder> [int8|int4]')

const begin = performance.now()
const model = await loadModel(folder, loadOptions(quantization))
await model.generate({ prompt: 'Hello', maxTokens: 1 })
print({ case: 'load', value: (performance.now() - begin) / 1000 })

const common = { temperature: 0, cache: false, promptLookupTokens: 0 } as const
const ask = (request: GenerateRequest) => model.generate({ ...request, ...common })

for (const tokens of [128, 512]) {
  const { timings, usage } = await ask({ prompt: words(tokens), maxTokens: 1 })
  print({ case: `prefill ${tokens}`, value: usage.promptTokens / (timings.prefillMs / 1000) })
}
const { timings } = await ask({ prompt: words(decodePrompt), maxTokens: decodeTokens + 1 })
print({ case: 'decode', value: timings.tokensPerSecond })
for (const [width, height] of Object.keys(cases).flatMap(sizeOf)) {
  const data = Uint8Array.from({ length: width * height * 3 }, (_, i) => (i * 7 + (i >> 9)) & 255)
  const content = [{ type: 'image' as const, image: { data, width, height, channels: 3 as const } }]
  const { timings } = await ask({ messages: [{ role: 'user', content }], maxTokens: 1 })
  print({ case: `image ${width}×${height}`, value: timings.visionMs / 1000 })
}
await model.dispose()

/** In the quantised modes all that can be is quantised, activations included. */
function loadOptions(mode: string | undefined): LoadModelOptions {
  if (mode === undefined) return {}
  if (mode !== 'int8' && mode !== 'int4') throw new Error(`${mode} is neither int8 nor int4`)
  return { quantization: mode, visionQuantization: 'int8', activations: 'int8' }
}

/** A word is one token of the Qwen2 vocabulary. */
function words(count: number): string {
  return ' one'.repeat(count)
}

function sizeOf(name: string): [number, number][] {
  const [, width, height] = /^image (\d+)×(\d+)$/.exec(name) ?? []
  return width === undefined ? [] : [[Number(width), Number(height)]]
}
