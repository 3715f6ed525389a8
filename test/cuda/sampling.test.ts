/** Where tokens are chosen on device 'cuda': the logits stay on the GPU, token ids come back. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { loadModel, type GenerateRequest, type Model } from '../../lib/index.js'
import { requestOf, sampleOf } from '../lib/generation/tiny-samples.js'

const onSimulator = process.env['QWEN2_VL_TEST_CUDA'] !== 'gpu'
const folder = mkdtempSync(join(tmpdir(), 'qwen2-vl-sampling-'))
const report = join(folder, 'report.jsonl')
// The simulator looks at it when the driver is opened, by the first model of this process.
process.env['QWEN2_VL_SIM_REPORT'] = report

let model: Model
beforeAll(async () => void (model = await loadModel('tiny', { device: 'cuda' })))
beforeEach(() => writeFileSync(report, ''))
afterAll(async () => {
  await model.dispose()
  rmSync(folder, { recursive: true, force: true })
})

/** The bytes of each copy from the device so far. */
function downloads(): number[] {
  if (!existsSync(report)) return []
  return readFileSync(report, 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('{"copy":"to_host"'))
    .map((line) => (JSON.parse(line) as { bytes: number }).bytes)
}

const idBytes = 4
const messages = [{ role: 'user', content: 'Who are you?' }]
const request = { messages, maxTokens: 6 }
const requests: [string, GenerateRequest][] = [
  ['greedy', { ...request, temperature: 0 }],
  ['about an image', { ...requestOf(sampleOf('ocr-hello')), maxTokens: 3 }],
  ['drawn', { ...request, temperature: 1.5, seed: 7 }],
  [
    'drawn among the best',
    { ...request, temperature: 2, topK: 40, topP: 0.9, minP: 0.01, seed: 8 },
  ],
  ['of a flat distribution', { ...request, temperature: 50, topP: 0.95, seed: 9 }],
  [
    'penalised',
    {
      ...request,
      ...{ temperature: 1, repetitionPenalty: 1.3, frequencyPenalty: 0.5, presencePenalty: 0.5 },
      ...{ penaltyLastN: 20, seed: 10 },
    },
  ],
  ['with biases', { ...request, temperature: 1, logitBias: { '100': 3, '200': -5 }, seed: 11 }],
  [
    'held to a form',
    { ...request, temperature: 1, seed: 12, responseFormat: { type: 'regex', pattern: '\\d{6}' } },
  ],
]

describe.each(requests)('an answer that is %s', (_, wanted) => {
  it('brings only ids from the device', { skip: !onSimulator }, async () => {
    const { tokenIds } = await model.generate(wanted)
    expect(tokenIds.length).toBeGreaterThan(1)
    expect(downloads()).toEqual(tokenIds.map(() => idBytes))
  })

  it('is the same again, alone and beside others', async () => {
    const { tokenIds } = await model.generate(wanted)
    const others = [3, 4].map((seed) => model.generate({ ...wanted, seed, cache: false }))
    expect((await model.generate({ ...wanted, cache: false })).tokenIds).toEqual(tokenIds)
    await Promise.all(others)
  })
})

describe('several answers at a time', () => {
  it('bring one id each from a step', { skip: !onSimulator }, async () => {
    const results = await Promise.all(requests.map(([, wanted]) => model.generate(wanted)))
    const tokens = results.reduce((sum, { tokenIds }) => sum + tokenIds.length, 0)
    const copies = downloads()
    expect(copies.reduce((sum, bytes) => sum + bytes, 0)).toBe(idBytes * tokens)
    expect(copies.length).toBeLessThan(tokens)
  })

  it('may be more than the head has rows', { skip: !onSimulator }, async () => {
    const wide = await loadModel('tiny', { device: 'cuda', maxConcurrency: 40 })
    try {
      writeFileSync(report, '')
      const { choices } = await wide.generate({ ...request, n: 40, maxTokens: 3, temperature: 2 })
      const tokens = choices.reduce((sum, { tokenIds }) => sum + tokenIds.length, 0)
      const copies = downloads()
      expect(copies.reduce((sum, bytes) => sum + bytes, 0)).toBe(idBytes * tokens)
      expect(Math.max(...copies)).toBe(32 * idBytes)
    } finally {
      await wide.dispose()
    }
  })
})

describe('what needs the logits themselves', () => {
  const logitBytes = 4 * 1024

  it.each<[string, GenerateRequest]>([
    ['log probabilities', { ...request, temperature: 0, logprobs: true, topLogprobs: 2 }],
    ['bans of n-grams', { ...request, temperature: 0, noRepeatNgramSize: 3 }],
  ])('%s, fetches them', async (_, wanted) => {
    const { tokenIds } = await model.generate(wanted)
    if (onSimulator) expect(Math.min(...downloads())).toBeGreaterThan(logitBytes)
    const { tokenIds: plain } = await model.generate({ ...request, temperature: 0 })
    expect(tokenIds).toEqual(plain)
  })
})

describe('drafts', () => {
  it('are verified by ids alone', { skip: !onSimulator }, async () => {
    // It never finds its end, and soon repeats itself.
    const wanted = { ...request, maxTokens: 28, temperature: 0, logitBias: { '<|im_end|>': -100 } }
    const plain = await model.generate(wanted)
    writeFileSync(report, '')
    const drafted = await model.generate({ ...wanted, promptLookupTokens: 4 })
    expect(drafted.tokenIds).toEqual(plain.tokenIds)
    expect(drafted.usage.acceptedDraftTokens).toBeGreaterThan(0)
    const copies = downloads()
    expect(Math.max(...copies)).toBeGreaterThan(idBytes)
    for (const bytes of copies) expect(bytes).toBeLessThanOrEqual(5 * idBytes)
  })
})
