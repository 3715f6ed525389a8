/** Whole conversations over all kinds of input against the reference's recorded prompts and answers. */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { cp, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadModel, type Model } from '../../lib/index.js'
import { packageRoot } from '../../lib/package-root.js'
import { tinyFolder } from './generation/tiny-samples.js'
import { hasFfmpeg } from './processor/clips.js'
import { recordedPrompts, type CheckpointChoice, type PixelLimits } from './recorded-prompts.js'

const prompts = recordedPrompts()
const isOfVideoFile = (name: string) => /^(file|clip):/.test(name)
const named = prompts
  .filter(({ name }) => hasFfmpeg || !isOfVideoFile(name))
  .map((prompt) => [prompt.name, prompt] as const)
const answered = named.filter(([, { recorded }]) => recorded.answer)

/** The files of the repository, for the prompts that fetch theirs. */
const server = createServer((request, response) => {
  createReadStream(join(packageRoot, request.url!)).pipe(response)
})
let origin = ''

/** The bundled checkpoint once for each choice of limits, loaded when first asked for. */
const models = new Map<string, Promise<Model>>()
const folders: string[] = []

function open(choice: CheckpointChoice): Promise<Model> {
  const key = JSON.stringify(choice)
  let model = models.get(key)
  if (!model) models.set(key, (model = load(choice)))
  return model
}

async function load({ limits, loadOptions }: CheckpointChoice): Promise<Model> {
  const folder = limits ? await folderWith(limits) : tinyFolder
  return loadModel(folder, { ...loadOptions, allowPrivateHosts: true })
}

async function folderWith({ minPixels, maxPixels }: PixelLimits): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'qwen2-vl-limits-'))
  folders.push(folder)
  for (const name of await readdir(tinyFolder)) {
    const file = join(tinyFolder, name)
    if (name === 'model.safetensors') await symlink(file, join(folder, name))
    else if (/\.(json|txt)$/.test(name)) await cp(file, join(folder, name))
  }
  await writeFile(
    join(folder, 'preprocessor_config.json'),
    JSON.stringify({ min_pixels: minPixels, max_pixels: maxPixels }),
  )
  return folder
}

beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterAll(async () => {
  for (const model of models.values()) await (await model).dispose()
  for (const folder of folders) await rm(folder, { recursive: true })
  await new Promise((resolve) => server.close(resolve))
})

function sha256(array: Float32Array | Int32Array | undefined): string | undefined {
  if (array === undefined) return undefined
  const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength)
  return createHash('sha256').update(bytes).digest('hex')
}

const visualTokens = (grids: readonly number[][]) =>
  grids.reduce((sum, [t, h, w]) => sum + (t! * h! * w!) / 4, 0)

it('has at least 60 prompts and 40 answers, of images, frames and video files', () => {
  const withAnswers = prompts.filter(({ recorded }) => recorded.answer)
  expect(prompts.length).toBeGreaterThanOrEqual(60)
  expect(withAnswers.length).toBeGreaterThanOrEqual(40)
  const withImages = withAnswers.filter(({ recorded }) => recorded.imageGrids.length > 0)
  const withVideos = withAnswers.filter(({ recorded }) => recorded.videoGrids.length > 0)
  const withFiles = withAnswers.filter(({ name }) => isOfVideoFile(name))
  expect(withImages.length).toBeGreaterThanOrEqual(40)
  expect(withVideos.length).toBeGreaterThanOrEqual(30)
  expect(withFiles.length).toBeGreaterThanOrEqual(20)
})

describe('prompts equal the reference bit for bit', () => {
  it.each(named)('%s', async (_, { request, checkpoint, recorded }) => {
    const model = await open(checkpoint)
    const prompt = await model.processor.process(request(origin))
    expect(prompt.text).toBe(recorded.text)
    expect([...prompt.inputIds]).toEqual(recorded.ids)
    expect(prompt.imageGridThw).toEqual(recorded.imageGrids)
    expect(prompt.videoGridThw).toEqual(recorded.videoGrids)
    expect(sha256(prompt.pixelValues)).toBe(recorded.imagePatches)
    expect(sha256(prompt.pixelValuesVideos)).toBe(recorded.videoPatches)
    expect(sha256(prompt.positionIds)).toBe(recorded.positions)
    expect(prompt.ropeDelta).toBe(recorded.delta)
  })

  it('and are counted right before they run', async () => {
    const counts = named.map(async ([name, { request, checkpoint, recorded }]) => {
      const model = await open(checkpoint)
      const promptTokens = recorded.ids.length
      const imageTokens = visualTokens(recorded.imageGrids)
      const videoTokens = visualTokens(recorded.videoGrids)
      const textTokens = promptTokens - imageTokens - videoTokens
      const expected = { promptTokens, textTokens, imageTokens, videoTokens }
      expect(await model.countTokens(request(origin)), name).toMatchObject(expected)
    })
    await Promise.all(counts)
  })
})

describe('greedy answers equal the reference token for token', () => {
  it.each(answered)('%s', async (_, { request, checkpoint, recorded }) => {
    const model = await open(checkpoint)
    const result = await model.generate({ ...request(origin), temperature: 0, maxTokens: 24 })
    expect(result.tokenIds).toEqual(recorded.answer)
    expect(model.tokenizer.decode(result.tokenIds)).toBe(recorded.answerText)
    expect(result.usage.promptTokens).toBe(recorded.ids.length)
  })

  it('also when they are asked all at once, and nothing is taken from the caches', async () => {
    // Video files are decoded by processes of their own, which take most of the time: the clip will do.
    const asked = answered.filter(([name]) => !name.startsWith('file:'))
    const results = await Promise.all(
      asked.map(async ([, { request, checkpoint }]) => {
        const model = await open(checkpoint)
        const options = { temperature: 0, maxTokens: 24, cache: false }
        return model.generate({ ...request(origin), ...options })
      }),
    )
    expect(results.map(({ tokenIds }) => tokenIds)).toEqual(
      asked.map(([, { recorded }]) => recorded.answer),
    )
  })
})
