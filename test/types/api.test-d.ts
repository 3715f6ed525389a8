/** The types that users get, of the built package: what they allow, what they refuse, what they infer. */
import { describe, expectTypeOf, test } from 'vitest'
import { z } from 'zod'
import {
  annotate,
  downloadModel,
  listModels,
  loadModel,
  parseBoxes,
  Qwen2VLError,
  scaleTo,
  type Box,
  type CachedModel,
  type Chat,
  type ChatMessage,
  type DownloadedModel,
  type FinishReason,
  type GenerateResult,
  type GenerationEvent,
  type GenerationStream,
  type ImageError,
  type ImageSource,
  type InvalidArgumentError,
  type Model,
  type ModelInfo,
  type PreparedImage,
} from 'qwen2-vl'

declare const model: Model
const messages = [{ role: 'user', content: 'Who are you?' }] satisfies ChatMessage[]

describe('loadModel', () => {
  test('takes a path, an id or a URL and gives a model', () => {
    expectTypeOf(loadModel).returns.resolves.toEqualTypeOf<Model>()
    expectTypeOf(loadModel).parameter(0).toEqualTypeOf<string | URL>()
    expectTypeOf<Model['info']>().toEqualTypeOf<ModelInfo>()
  })

  test('knows its options', () => {
    void loadModel('tiny', {
      quantization: 'int4',
      threads: 2,
      onProgress: ({ phase }) => phase.length,
    })
    // @ts-expect-error: a misspelt option
    void loadModel('tiny', { quantisation: 'int4' })
    // @ts-expect-error: a value that does not exist
    void loadModel('tiny', { quantization: 'int3' })
    // @ts-expect-error: undefined is no source
    void loadModel(undefined)
  })

  test('gives what `await using` needs', () => {
    expectTypeOf<Model>().toExtend<AsyncDisposable>()
    expectTypeOf(model.dispose()).resolves.toBeVoid()
  })
})

describe('requests', () => {
  test('have messages or a prompt', () => {
    void model.generate({ messages })
    void model.generate({ prompt: ['a ', { type: 'image', image: 'a.png' }] })
    // @ts-expect-error: a message without content
    void model.generate({ messages: [{ role: 'user' }] })
    // @ts-expect-error: a part of no known type
    void model.generate({ prompt: [{ type: 'smell', text: 'rose' }] })
    // @ts-expect-error: an image part without its image
    void model.generate({ messages: [{ role: 'user', content: [{ type: 'image' }] }] })
  })

  test('know their options, in both spellings', () => {
    void model.generate({ messages, maxTokens: 5, temperature: 0, stop: ['.'], seed: 1 })
    void model.generate({ messages, max_tokens: 5, top_p: 0.9 })
    // @ts-expect-error: a misspelt option
    void model.generate({ messages, max_token: 5 })
    // @ts-expect-error: a number as text
    void model.generate({ messages, maxTokens: '5' })
  })

  test('take images in many forms', () => {
    expectTypeOf<string | URL | Uint8Array | ArrayBuffer | Blob>().toExtend<ImageSource>()
    expectTypeOf<ReadableStream<Uint8Array>>().toExtend<ImageSource>()
    expectTypeOf<PreparedImage>().toExtend<ImageSource>()
    expectTypeOf<{
      data: Uint8Array
      width: number
      height: number
      channels: 3
    }>().toExtend<ImageSource>()
    expectTypeOf<number>().not.toExtend<ImageSource>()
  })
})

describe('results', () => {
  const person = z.object({ name: z.string(), age: z.number() })

  test('are plain data', () => {
    expectTypeOf<GenerateResult['text']>().toBeString()
    expectTypeOf<GenerateResult['finishReason']>().toEqualTypeOf<FinishReason>()
    expectTypeOf<GenerateResult['usage']['promptTokens']>().toBeNumber()
  })

  test('have the object that was asked for', async () => {
    const structured = await model.generate({ messages, responseFormat: person })
    expectTypeOf(structured.object).toEqualTypeOf<{ name: string; age: number } | undefined>()
    const chosen = await model.generate({
      messages,
      responseFormat: { type: 'choice', choices: ['cat', 'dog'] },
    })
    expectTypeOf(chosen.object).toEqualTypeOf<'cat' | 'dog' | undefined>()
    // @ts-expect-error: 'bird' was no choice
    if (chosen.object === 'bird') return
  })

  test('stream as events and as text', () => {
    const stream = model.stream({ messages, responseFormat: person })
    expectTypeOf(stream).toEqualTypeOf<GenerationStream<{ name: string; age: number }>>()
    expectTypeOf(stream).toExtend<AsyncIterable<GenerationEvent>>()
    expectTypeOf(stream.textStream).toExtend<AsyncIterable<string>>()
    expectTypeOf(stream.result).resolves.toHaveProperty('object')
  })

  test('settle one by one in batches', () => {
    expectTypeOf(model.generateBatch([{ messages }])).resolves.items.toEqualTypeOf<
      GenerateResult | Error
    >()
  })
})

describe('everything else', () => {
  test('chats send text, parts or results of tools', () => {
    expectTypeOf(model.createChat()).toEqualTypeOf<Chat>()
    void model.createChat().send([{ type: 'image', image: 'a.png' }])
    // @ts-expect-error: one part is not a list of parts
    void model.createChat().send({ type: 'text', text: 'Hello' })
  })

  test('boxes have numbers', () => {
    expectTypeOf<Box>().toExtend<{ x1: number; y1: number; x2: number; y2: number }>()
    expectTypeOf(annotate).returns.resolves.toEqualTypeOf<Buffer>()
    expectTypeOf(parseBoxes).parameter(0).toBeString()
    expectTypeOf(scaleTo).toBeFunction()
  })

  test('models come to the disk and are listed', () => {
    expectTypeOf(downloadModel).returns.resolves.toEqualTypeOf<DownloadedModel>()
    expectTypeOf(listModels).returns.resolves.toEqualTypeOf<CachedModel[]>()
  })

  test('errors have a code, and some say where', () => {
    const error: unknown = null
    if (Qwen2VLError.isInstance(error)) expectTypeOf(error).toEqualTypeOf<Qwen2VLError>()
    expectTypeOf<ImageError>().toExtend<Qwen2VLError>()
    expectTypeOf<Qwen2VLError['code']>().toBeString()
    expectTypeOf<InvalidArgumentError['suggestion']>().toEqualTypeOf<string | undefined>()
    expectTypeOf<ImageError['index']>().toEqualTypeOf<number | undefined>()
  })
})
