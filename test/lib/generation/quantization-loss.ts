/** What a way of loading the bundled checkpoint loses against its full precision. */
import { Abort } from '../../../lib/generation/abort.js'
import { preparePrompt } from '../../../lib/generation/prompt.js'
import type { NativeLoadOptions, NativeModel, NativeVisionItem } from '../../../lib/native.js'
import { loadTiny, run, textRequest } from '../../addon/tiny.js'
import { samples, tinyContext } from './tiny-samples.js'

interface Prompt {
  id: string
  ids: Int32Array
  items: NativeVisionItem[]
  reference: number[]
}

/** The samples' prompts with the reference's answers. */
export async function samplePrompts(): Promise<Prompt[]> {
  const context = await tinyContext()
  const prompts: Prompt[] = []
  for (const sample of samples) {
    const request = { messages: sample.messages, addVisionId: sample.add_vision_id }
    const { tokenIds, items } = await preparePrompt(context, request, new Abort())
    const { id, reference } = sample
    prompts.push({ id, ids: tokenIds, items, reference: reference.token_ids })
  }
  return prompts
}

/** The distribution of one token: the logarithms of the probabilities of the likeliest 1,024 ids. */
type Distribution = Map<number, number>

/** The distributions at every place of the reference's answers, given what it said before. */
export async function distributions(
  options: Partial<NativeLoadOptions>,
  prompts: Prompt[],
): Promise<Distribution[]> {
  const native = await loadTiny({ maxQueue: 4096, ...options })
  try {
    const all = await Promise.all(
      prompts.flatMap((prompt) =>
        prompt.reference.map((_, at) => distributionAt(native, prompt, at)),
      ),
    )
    return all
  } finally {
    await native.dispose()
  }
}

async function distributionAt(native: NativeModel, { ids, items, reference }: Prompt, at: number) {
  const prompt = new Int32Array(ids.length + at)
  prompt.set(ids)
  prompt.set(reference.slice(0, at), ids.length)
  const request = textRequest({
    prompt,
    items,
    maxTokens: 1,
    topLogits: 1024,
    logProbabilities: true,
    useCache: true,
    stopIds: new Int32Array(0),
  })
  const [token] = (await run(native, request).end).tokens
  const { topLogits = [], logSumExp = NaN } = token ?? {}
  return new Map(topLogits.map(({ id, logit }) => [id, logit - logSumExp]))
}

/** Mean and largest Kullback-Leibler divergence of `found` from `expected`, in nats. */
export function divergence(expected: Distribution[], found: Distribution[]) {
  const each = expected.map((distribution, i) => {
    const other = found[i] ?? new Map<number, number>()
    let sum = 0
    for (const [id, logProbability] of distribution) {
      // What is not among the likeliest of one is so small in both that it does not count.
      const otherLog = other.get(id)
      if (otherLog !== undefined) sum += Math.exp(logProbability) * (logProbability - otherLog)
    }
    return Math.max(sum, 0)
  })
  return { mean: each.reduce((a, b) => a + b, 0) / each.length, largest: Math.max(...each) }
}

/** Share of the samples whose greedy answer is the reference's, token for token. */
export async function answersRight(options: Partial<NativeLoadOptions>, prompts: Prompt[]) {
  const native = await loadTiny({ maxQueue: 4096, ...options })
  try {
    const right = await Promise.all(
      prompts.map(async ({ ids, items, reference }) => {
        const request = textRequest({ prompt: ids, items, maxTokens: reference.length })
        const found = (await run(native, request).end).ids
        return found.length === reference.length && found.every((id, i) => id === reference[i])
      }),
    )
    return right.filter(Boolean).length / right.length
  } finally {
    await native.dispose()
  }
}
