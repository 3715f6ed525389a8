import { createHash } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  loadModel,
  type ContentPart,
  type GenerateRequest,
  type Model,
} from '../../../lib/index.js'
import { recordedPrompts } from '../recorded-prompts.js'
import { requestOf, sampleOf, samples, tinyFolder } from './tiny-samples.js'

let model: Model
beforeAll(async () => void (model = await loadModel('tiny')))
afterAll(() => model.dispose())

function sha256(array: Float32Array | Int32Array | undefined): string | undefined {
  if (array === undefined) return undefined
  const { buffer, byteOffset, byteLength } = array
  return createHash('sha256')
    .update(new Uint8Array(buffer, byteOffset, byteLength))
    .digest('hex')
}

describe('processor.process', () => {
  const prompts = recordedPrompts().filter(
    ({ name, checkpoint }) =>
      /^(images|mixed|frames|turns)/.test(name) &&
      !name.includes('web address') &&
      Object.keys(checkpoint).length === 0,
  )

  it.each(prompts.map((prompt) => [prompt.name, prompt] as const))(
    'gives the arrays of the reference: %s',
    async (_, { request, recorded }) => {
      const prompt = await model.processor.process(request(''))
      expect(prompt.text).toBe(recorded.text)
      expect([...prompt.inputIds]).toEqual(recorded.ids)
      expect(prompt.imageGridThw).toEqual(recorded.imageGrids)
      expect(prompt.videoGridThw).toEqual(recorded.videoGrids)
      expect(sha256(prompt.pixelValues)).toBe(recorded.imagePatches)
      expect(sha256(prompt.pixelValuesVideos)).toBe(recorded.videoPatches)
      expect(sha256(prompt.positionIds)).toBe(recorded.positions)
      expect(prompt.ropeDelta).toBe(recorded.delta)
    },
  )

  it('says what each token stands for', async () => {
    const { inputIds, mmTokenTypeIds, imageGridThw, images } = await model.processor.process(
      requestOf(sampleOf('grounding')),
    )
    expect([...mmTokenTypeIds]).toEqual([...inputIds].map((id) => (id === 1258 ? 1 : 0)))
    expect(imageGridThw).toEqual([[1, 8, 10]])
    expect(images).toMatchObject([{ width: 143, height: 105, tokens: 20 }])
    const video = samples.find(({ video_grid_thw }) => video_grid_thw.length > 0)!
    const types = (await model.processor.process(requestOf(video))).mmTokenTypeIds
    const [[t, h, w]] = video.video_grid_thw as [[number, number, number]]
    expect([...types].filter((type) => type === 2)).toHaveLength((t * h * w) / 4)
  })

  it('has rows of 1,176 for the patches of all images', async () => {
    const { pixelValues, pixelValuesVideos, imageGridThw } = await model.processor.process(
      requestOf(sampleOf('three-images-which')),
    )
    const patches = imageGridThw.reduce((sum, [t, h, w]) => sum + t * h * w, 0)
    expect(imageGridThw).toHaveLength(3)
    expect(pixelValues).toHaveLength(patches * 1176)
    expect(pixelValuesVideos).toBeUndefined()
  })

  it('refuses what generate() refuses, and ends with its signal', async () => {
    const request = requestOf(sampleOf('grounding'))
    await expect(
      model.processor.process({ ...request, max_token: 1 } as unknown as GenerateRequest),
    ).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT', suggestion: 'max_tokens' })
    const reason = new Error('enough')
    await expect(
      model.processor.process({ ...request, signal: AbortSignal.abort(reason) }),
    ).rejects.toBe(reason)
  })

  it('is over when the model is disposed', async () => {
    const other = await loadModel('tiny', { threads: 1 })
    await other.dispose()
    await expect(other.processor.process(requestOf(sampleOf('grounding')))).rejects.toMatchObject({
      code: 'ERR_DISPOSED',
    })
  })
})

describe('applyChatTemplate', () => {
  it.each(samples.map((sample) => [sample.id, sample] as const))(
    'renders %s as the reference, without looking at its pictures',
    (_, { messages, add_vision_id, prompt }) => {
      const blind = messages.map((message) => ({
        ...message,
        content:
          typeof message.content === 'string' || message.content === null
            ? message.content
            : message.content.map((part): ContentPart => {
                if (part.type === 'image') return { type: 'image', image: 'no-such.png' }
                return part
              }),
      }))
      expect(model.applyChatTemplate(blind, { addVisionId: add_vision_id })).toBe(prompt)
    },
  )

  it('takes the options of a request, and no others', () => {
    const messages = [{ role: 'user', content: 'Hi' }]
    const turn =
      '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n'
    expect(model.applyChatTemplate(messages)).toBe(`${turn}<|im_start|>assistant\n`)
    expect(model.applyChatTemplate(messages, { addGenerationPrompt: false })).toBe(turn)
    const chatTemplate = '{{ messages[0].content }}!'
    expect(model.applyChatTemplate(messages, { chatTemplate })).toBe('Hi!')
    const misspelt = { add_vision_ids: true } as object
    expect(() => model.applyChatTemplate(messages, misspelt)).toThrow(
      "applyChatTemplate() options: there is no option 'add_vision_ids'. Did you mean 'add_vision_id'?",
    )
    expect(() => model.applyChatTemplate([])).toThrow(/messages is empty/)
  })
})

describe('raw prompts', () => {
  const [part] = sampleOf('grounding').messages[0]!.content as [ContentPart]
  const question = [
    '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n',
    part,
    'Locate the blue circle.<|im_end|>\n<|im_start|>assistant\n',
  ]

  it('with the markers of a conversation give its very answer', async () => {
    const answer = await model.generate(requestOf(sampleOf('grounding')))
    const raw = await model.generate({ prompt: question, temperature: 0, maxTokens: 64 })
    expect(raw.tokenIds).toEqual(answer.tokenIds)
    expect(raw.boxes).toEqual(answer.boxes)
    expect(raw.usage.promptTokens).toBe(answer.usage.promptTokens)
  })

  it('get nothing added', async () => {
    const { text, inputIds } = await model.processor.process({ prompt: 'Who are you?' })
    expect(text).toBe('Who are you?')
    expect([...inputIds]).toEqual(model.tokenizer.encode('Who are you?'))
    expect(await model.countTokens({ prompt: [part, 'a'] })).toMatchObject({
      promptTokens: 20 + 3,
      imageTokens: 20,
      textTokens: 3,
    })
  })

  it.each<[string, string | undefined, RegExp]>([
    [
      'the template of a base model',
      "{% for part in messages %}{% if 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}",
      /that of a base model.*or give a prompt instead of messages/,
    ],
    ['no template', undefined, /has no chat template.*or give a prompt instead of messages/],
  ])('work with a checkpoint with %s, which explains itself', async (_, template, message) => {
    const folder = await mkdtemp(join(tmpdir(), 'qwen2-vl-base-'))
    for (const name of await readdir(tinyFolder)) {
      const file = join(tinyFolder, name)
      if (name === 'model.safetensors') await symlink(file, join(folder, name))
      else if (name.endsWith('.json') && name !== 'chat_template.json') {
        const json = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>
        delete json['chat_template']
        await writeFile(join(folder, name), JSON.stringify(json))
      }
    }
    if (template !== undefined) {
      const text = JSON.stringify({ chat_template: template })
      await writeFile(join(folder, 'chat_template.json'), text)
    }
    const base = await loadModel(folder, { threads: 1 })
    const request = requestOf(sampleOf('grounding'))
    await expect(base.generate(request)).rejects.toThrow(message)
    const { boxes } = await base.generate({ prompt: question, temperature: 0, maxTokens: 64 })
    expect(boxes).toMatchObject([{ label: 'the blue circle' }])
    await base.dispose()
    await rm(folder, { recursive: true })
  })

  it('cannot have more placeholders than pictures', async () => {
    await expect(model.generate({ prompt: '<|image_pad|>' })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      path: 'prompt',
      message: expect.stringMatching(
        /1 image placeholder for 0 images. The prompt contains the text/,
      ) as string,
    })
  })
})
