/** Quantised weights: what the bundled checkpoint loses, and that nothing around a request matters. */
import { beforeAll, describe, expect, it } from 'vitest'
import type { NativeLoadOptions } from '../../../lib/native.js'
import { loadTiny, run, textRequest } from '../../addon/tiny.js'
import { answersRight, distributions, divergence, samplePrompts } from './quantization-loss.js'

type Prompts = Awaited<ReturnType<typeof samplePrompts>>

const int8 = { quantization: 'int8' } as const
const int4 = { quantization: 'int4' } as const
const vision = { visionQuantization: 'int8' } as const
const activations = { activations: 'int8' } as const

let prompts: Prompts
let exact: Awaited<ReturnType<typeof distributions>>
beforeAll(async () => {
  prompts = await samplePrompts()
  exact = await distributions({}, prompts)
})

describe('the loss', () => {
  // About twice what docs/performance.md says was measured.
  it.each<[Partial<NativeLoadOptions>, { mean: number }]>([
    [int8, { mean: 4e-6 }],
    [{ ...int8, ...activations }, { mean: 4e-5 }],
    [vision, { mean: 3e-6 }],
    [{ ...vision, ...activations }, { mean: 2e-5 }],
    [int4, { mean: 3e-4 }],
    [{ ...int4, ...activations }, { mean: 3e-4 }],
    [{ ...int4, ...vision, ...activations }, { mean: 3e-4 }],
  ])(
    'of %j is within %j nats, and every sample is still answered rightly',
    async (options, bound) => {
      const { mean } = divergence(exact, await distributions(options, prompts))
      expect(mean).toBeGreaterThan(1e-8) // something was rounded
      expect(mean).toBeLessThan(bound.mean)
      expect(await answersRight(options, prompts)).toBe(1)
    },
  )
})

describe.each([
  { ...int8, ...vision },
  { ...int8, ...vision, ...activations },
  int4,
  { ...int4, ...activations },
])('answers of %j, bit for bit,', (options) => {
  const chosen = ['text-math', 'ocr-hello', 'video-direction', 'describe-three']

  const answersOf = async (changes: Partial<NativeLoadOptions>, together: boolean) => {
    const native = await loadTiny({ ...options, ...changes })
    const answer = async ({ ids, items, reference }: Prompts[number]) => {
      const maxTokens = reference.length
      const request = textRequest({ prompt: ids, items, maxTokens, topLogits: 5 })
      return (await run(native, request).end).tokens
    }
    try {
      const asked = prompts.filter(({ id }) => chosen.includes(id))
      if (together) return await Promise.all(asked.map(answer))
      const answers = []
      for (const prompt of asked) answers.push(await answer(prompt))
      return answers
    } finally {
      await native.dispose()
    }
  }

  it('do not depend on threads, on chunks of the prompt or on requests beside', async () => {
    const alone = await answersOf({ threads: 1 }, false)
    expect(alone).toHaveLength(chosen.length)
    expect(await answersOf({ threads: 3 }, false)).toEqual(alone)
    expect(await answersOf({ prefillChunk: 7 }, false)).toEqual(alone)
    expect(await answersOf({}, true)).toEqual(alone)
  })
})
