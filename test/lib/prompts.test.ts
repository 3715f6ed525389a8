/** Whole conversations over all kinds of input against the reference's recorded prompts and answers. */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { cp, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { normalizePrompt } from '../../lib/chat/messages.js'
import { ChatTemplate } from '../../lib/chat/template.js'
import { openCheckpoint } from '../../lib/checkpoint/checkpoint.js'
import { Abort } from '../../lib/generation/abort.js'
import { Limiter } from '../../lib/generation/limiter.js'
import { parseRequest } from '../../lib/generation/options.js'
import {
  preparePrompt,
  renderMessages,
  type Prompt,
  type PromptContext,
} from '../../lib/generation/prompt.js'
import { loadModel, type Model } from '../../lib/index.js'
import { nativeBinding, type NativeVisionItem } from '../../lib/native.js'
import { packageRoot } from '../../lib/package-root.js'
import { toMediaOptions } from '../../lib/processor/media-options.js'
import { Tokenizer } from '../../lib/tokenizer/tokenizer.js'
import { tinyFolder } from './generation/tiny-samples.js'
import { recordedPrompts, type CheckpointChoice, type PixelLimits } from './recorded-prompts.js'

const prompts = recordedPrompts()
const named = prompts.map((prompt) => [prompt.name, prompt] as const)
const answered = named.filter(([, { recorded }]) => recorded.answer)

/** The files of the repository, for the prompts that fetch theirs. */
const server = createServer((request, response) => {
  createReadStream(join(packageRoot, request.url!)).pipe(response)
})
let origin = ''

/** The bundled checkpoint once for each choice of limits, loaded when first asked for. */
const loaded = new Map<string, Promise<{ model: Model; context: PromptContext }>>()
const folders: string[] = []

function open(choice: CheckpointChoice) {
  const key = JSON.stringify(choice)
  let entry = loaded.get(key)
  if (!entry) loaded.set(key, (entry = load(choice)))
  return entry
}

async function load({ limits, loadOptions }: CheckpointChoice) {
  const folder = limits ? await folderWith(limits) : tinyFolder
  const options = { ...loadOptions, allowPrivateHosts: true }
  const checkpoint = await openCheckpoint(folder)
  const context: PromptContext = {
    checkpoint,
    tokenizer: await Tokenizer.load(checkpoint.tokenizerFiles),
    template: ChatTemplate.ofCheckpoint(checkpoint.chatTemplate),
    media: toMediaOptions(options),
    mediaLimiter: new Limiter(2),
  }
  return { model: await loadModel(folder, options), context }
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
  for (const entry of loaded.values()) await (await entry).model.dispose()
  for (const folder of folders) await rm(folder, { recursive: true })
  await new Promise((resolve) => server.close(resolve))
})

function textOf(request: ReturnType<typeof parseRequest>, { template }: PromptContext): string {
  if (request.prompt !== undefined) return normalizePrompt(request.prompt).text
  return renderMessages(template, request).text
}

function gridOf({ frames }: NativeVisionItem): [t: number, h: number, w: number] {
  const [first] = frames
  return [Math.ceil(frames.length / 2), first!.height / 14, first!.width / 14]
}

/** Of the arrays one after another. */
function sha256(...arrays: (Float32Array | Int32Array)[]): string {
  const hash = createHash('sha256')
  for (const { buffer, byteOffset, byteLength } of arrays) {
    hash.update(new Uint8Array(buffer, byteOffset, byteLength))
  }
  return hash.digest('hex')
}

async function patchesOf({ items }: Prompt, isVideo: boolean, { checkpoint }: PromptContext) {
  const { imageMean, imageStd, rescaleFactor } = checkpoint.preprocessor
  const chosen = items.filter((item) => item.isVideo === isVideo)
  if (chosen.length === 0) return undefined
  const patches = chosen.map((item) =>
    nativeBinding().extractPatches(item, imageMean, imageStd, rescaleFactor),
  )
  return sha256(...(await Promise.all(patches)))
}

it('has at least 60 prompts and 40 answers, of images and of videos', () => {
  expect(prompts.length).toBeGreaterThanOrEqual(60)
  expect(answered.length).toBeGreaterThanOrEqual(40)
  const withImages = answered.filter(([, { recorded }]) => recorded.imageGrids.length > 0)
  const withVideos = answered.filter(([, { recorded }]) => recorded.videoGrids.length > 0)
  expect(withImages.length).toBeGreaterThanOrEqual(40)
  expect(withVideos.length).toBeGreaterThanOrEqual(10)
})

describe('prompts equal the reference bit for bit', () => {
  it.each(named)('%s', async (_, { request, checkpoint, recorded }) => {
    const { context } = await open(checkpoint)
    const parsed = parseRequest(request(origin))
    expect(textOf(parsed, context)).toBe(recorded.text)
    const prompt = await preparePrompt(context, parsed, new Abort())
    const { tokenIds, items } = prompt
    expect([...tokenIds]).toEqual(recorded.ids)

    const grids = items.map((item) => ({ grid: gridOf(item), isVideo: item.isVideo }))
    const gridsOf = (isVideo: boolean) =>
      grids.filter((item) => item.isVideo === isVideo).map(({ grid }) => grid)
    expect(gridsOf(false)).toEqual(recorded.imageGrids)
    expect(gridsOf(true)).toEqual(recorded.videoGrids)
    expect(await patchesOf(prompt, false, context)).toBe(recorded.imagePatches)
    expect(await patchesOf(prompt, true, context)).toBe(recorded.videoPatches)

    const { imageTokenId, videoTokenId } = context.checkpoint.config
    const { positions, delta } = nativeBinding().computePositions(
      tokenIds,
      grids.map(({ grid: [t, h, w], isVideo }) => ({ t, h, w, isVideo })),
      imageTokenId,
      videoTokenId,
    )
    expect(sha256(positions)).toBe(recorded.positions)
    expect(delta).toBe(recorded.delta)
  })

  it.each(named)('%s: counted before it runs', async (_, { request, checkpoint, recorded }) => {
    const { model } = await open(checkpoint)
    const visual = (grids: number[][]) =>
      grids.reduce((sum, [t, h, w]) => sum + (t! * h! * w!) / 4, 0)
    const imageTokens = visual(recorded.imageGrids)
    const videoTokens = visual(recorded.videoGrids)
    expect(await model.countTokens(request(origin))).toMatchObject({
      promptTokens: recorded.ids.length,
      imageTokens,
      videoTokens,
      textTokens: recorded.ids.length - imageTokens - videoTokens,
    })
  })
})

describe('greedy answers equal the reference token for token', () => {
  it.each(answered)('%s', async (_, { request, checkpoint, recorded }) => {
    const { model } = await open(checkpoint)
    const result = await model.generate({ ...request(origin), temperature: 0, maxTokens: 24 })
    expect(result.tokenIds).toEqual(recorded.answer)
    expect(model.tokenizer.decode(result.tokenIds)).toBe(recorded.answerText)
    expect(result.usage.promptTokens).toBe(recorded.ids.length)
  })

  it('also when all of them are asked at once', async () => {
    const results = await Promise.all(
      answered.map(async ([, { request, checkpoint }]) => {
        const { model } = await open(checkpoint)
        return model.generate({ ...request(origin), temperature: 0, maxTokens: 24 })
      }),
    )
    expect(results.map(({ tokenIds }) => tokenIds)).toEqual(
      answered.map(([, { recorded }]) => recorded.answer),
    )
  })
})
