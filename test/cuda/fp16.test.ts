/** With dtype 'fp16' device 'cuda' answers as the CPU does from the same rounded weights. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadModel, type Model } from '../../lib/index.js'
import { requestOf, sampleOf } from '../lib/generation/tiny-samples.js'

/** An image, several, a video, a conversation, and text alone. */
const ids = ['grounding', 'three-images-which', 'video-direction', 'multi-turn-turn3', 'text-who']

describe('the answers on CUDA in fp16', () => {
  let cuda: Model
  let cpu: Model
  beforeAll(async () => {
    cuda = await loadModel('tiny', { device: 'cuda', dtype: 'fp16' })
    cpu = await loadModel('tiny', { device: 'cpu', dtype: 'fp16' })
  })
  afterAll(async () => {
    await cuda.dispose()
    await cpu.dispose()
  })

  it('are of weights that were converted', () => {
    expect(cuda.info).toMatchObject({ device: { kind: 'cuda' }, dtype: 'fp16' })
    expect(cpu.info).toMatchObject({ device: { kind: 'cpu' }, dtype: 'fp16' })
  })

  it.each(ids)("to %s are the CPU's, with nearly its probabilities", async (id) => {
    const request = { ...requestOf(sampleOf(id)), maxTokens: 8, logprobs: true }
    const [actual, expected] = await Promise.all([cuda.generate(request), cpu.generate(request)])
    expect(actual.tokenIds).toEqual(expected.tokenIds)
    const probabilities = ({ logprobs }: typeof actual) => logprobs?.map(({ logprob }) => logprob)
    const [some, all] = [probabilities(actual), probabilities(expected)]
    expect(all?.length).toBeGreaterThan(0)
    // Activations have eleven bits.
    all?.forEach((logprob, i) => expect(some?.[i]).toBeCloseTo(logprob, 1))
  })
})
