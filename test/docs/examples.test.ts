/** The examples run as a reader would run them, with the built package and the bundled checkpoint. */
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { packageRoot } from '../../lib/package-root.js'
import { hasFfmpeg } from '../lib/processor/clips.js'

const three =
  'A green circle at the top left, a purple star at the top right and an orange star at the left.'
const sameShape =
  'The first image shows a star and the second image shows a square, so they are not the same.'

/** All that each example prints, line by line. */
const printed: Record<string, string[]> = {
  'single-image': [three, "20 of 46 prompt tokens are the image's"],
  'multiple-images': [
    'Picture 1 shows a diamond, picture 2 shows a triangle and picture 3 shows a square, so the square is in picture 3.',
    '56 x 56: 4 tokens',
    '84 x 84: 9 tokens',
    '56 x 56: 4 tokens',
  ],
  'video-frames': ['It moves down.', '24 tokens of video'],
  batch: [
    sameShape,
    'I am a tiny vision language model. I can read short texts and describe simple shapes.',
  ],
  base64: [
    'as in the Python README: HELLO',
    'as the OpenAI client sends it: HELLO',
    'as bytes: HELLO',
  ],
  'resized-sizes': [three, '130 x 114 seen as 168 x 140: 30 tokens'],
  'pixel-limits': [
    `20 tokens: ${three}`,
    '6 tokens: A green circle at the top left, an orange star at the top right and a purple star at the left.',
    '72 tokens: A green circle at the top left, a purple star at the top right and an orange star at the center.',
  ],
  'video-file': ['18 tokens of video', 'A red diamond moves to the right.'],
  openai: ['qwen2-vl-tiny: I see four shapes. (stop)', '43 + 6 tokens', 'first token: I'],
  'structured-output': [
    'a sign with string and boolean',
    'true',
    'The text says "HELLO".',
    'length: undefined: The answer was not complete after 64 tokens. Raise maxTokens, or ask for less.',
  ],
  tools: [
    'tool_calls: get_temperature',
    'get_temperature: a city that is known: true, an hour of a day: true',
    'then it speaks: true',
  ],
  'document-questions': [
    'How many shapes are there? I see one shape.',
    'Locate the blue circle. the blue circle(750,50),(950,250) (encoded before)',
    '  the blue circle: 107.3 5.3 135.8 26.3',
    '1 drawn in build/document-questions.png',
  ],
  'video-summary': [
    '4 frames, 18 tokens',
    '0-1.25 s: A red diamond moves to the right.',
    '1.25-2.5 s: A red diamond moves to the right.',
    'In all: A red diamond moves to the right.',
  ],
  'worker-thread': [
    'I am a tiny vision language model. I can read short texts and describe simple shapes. stop',
    'I am a tiny vision language mode abort',
    'the worker ended with 0',
  ],
  'add-vision-id': [
    `addVisionId: false, 32 tokens of text: ${sameShape}`,
    `addVisionId: true, 42 tokens of text: ${sameShape}`,
  ],
}

const withFfmpeg = new Set(['video-file', 'video-summary'])
/** Those with tests of their own below; the demo is an application of its own, which the gate runs. */
const others = ['caption-folder', 'demo', 'fastify-service', 'url']

const folder = join(packageRoot, 'examples')

async function run(name: string, ...args: string[]): Promise<string[]> {
  const file = join(folder, `${name}.ts`)
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['--import', 'tsx', file, ...args],
    { cwd: packageRoot },
  )
  return stdout.trimEnd().split('\n')
}

describe('examples', () => {
  const runnable = Object.entries(printed).filter(([name]) => hasFfmpeg || !withFfmpeg.has(name))

  it.concurrent.each(runnable)('%s', async (name, lines) => {
    expect(await run(name)).toEqual(lines)
  })

  it('are all tested, and say how they are run', () => {
    const files = readdirSync(folder).filter((file) => file.endsWith('.ts'))
    const names = files.map((file) => file.replace(/\.ts$/, ''))
    expect(names.sort()).toEqual([...Object.keys(printed), ...others].sort())
    const guides = readdirSync(join(packageRoot, 'docs')).filter((file) => file.endsWith('.md'))
    const texts = guides.map((file) => readFileSync(join(packageRoot, 'docs', file), 'utf8'))
    for (const name of names.filter((each) => each !== 'demo')) {
      const code = readFileSync(join(folder, `${name}.ts`), 'utf8')
      expect(code).toMatch(/^\/\*\*\n \* \S/)
      expect(code).toContain(` *     npx tsx examples/${name}.ts`)
      expect(code).toContain("from 'qwen2-vl'")
      expect(texts.join('\n')).toContain(`(../examples/${name}.ts)`)
    }
  })
})

describe('the example of an image from the web', () => {
  const picture = readFileSync(
    join(packageRoot, 'models', 'qwen2-vl-tiny', 'images', 'ocr-hello.png'),
  )
  const server = createServer((request, response) => {
    if (request.url === '/picture.png') response.end(picture)
    else response.writeHead(404).end()
  })
  const address = (path: string) =>
    `http://127.0.0.1:${(server.address() as AddressInfo).port}/${path}`

  beforeAll(() => new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve)))
  afterAll(() => new Promise((resolve) => server.close(resolve)))

  it('fetches it', async () => {
    const lines = await run('url', address('picture.png'), '--allow-private-hosts')
    expect(lines).toEqual(['The text says "HELLO".'])
  })

  it('shows what it refuses and what it cannot get', async () => {
    const refused = await run('url', address('picture.png'))
    expect(refused.join('\n')).toMatch(/^ERR_FETCH_BLOCKED: .*private/)
    const missing = await run('url', address('nothing.png'), '--allow-private-hosts')
    expect(missing.join('\n')).toMatch(/^ERR_FETCH_STATUS: .*404/)
  })
})

describe('the example of captions for a folder', () => {
  it('writes a line for each picture, also for one that cannot be read, and shows how far it is', async () => {
    const pictures = await mkdtemp(join(tmpdir(), 'qwen2-vl-captions-'))
    const from = join(packageRoot, 'models', 'qwen2-vl-tiny', 'images')
    await copyFile(join(from, 'describe-one.png'), join(pictures, 'a.png'))
    await copyFile(join(from, 'describe-two.png'), join(pictures, 'c.png'))
    await writeFile(join(pictures, 'b.jpg'), 'no picture')
    await writeFile(join(pictures, 'notes.txt'), 'not looked at')
    const file = join(folder, 'caption-folder.ts')
    const { stdout, stderr } = await promisify(execFile)(
      process.execPath,
      ['--import', 'tsx', file, pictures],
      { cwd: packageRoot },
    )
    await rm(pictures, { recursive: true })
    const lines = stdout.trimEnd().split('\n')
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([
      { file: 'a.png', caption: 'An orange square at the left.' },
      { file: 'b.jpg', error: expect.stringMatching(/cannot be decoded/) as string },
      { file: 'c.png', caption: 'An orange square at the top left and a purple star at the top.' },
    ])
    expect(stderr).toMatch(/█{8}░{16} 1 of 3\n/)
    expect(stderr).toMatch(/█{24} 3 of 3\n$/)
  })
})

describe('the example of a service', () => {
  let service: ChildProcess
  let ended: Promise<number | null>
  let address: string
  const messages = [{ role: 'user', content: 'Who are you?' }]
  const answer =
    'I am a tiny vision language model. I can read short texts and describe simple shapes.'

  beforeAll(async () => {
    const file = join(folder, 'fastify-service.ts')
    service = spawn(process.execPath, ['--import', 'tsx', file, '--port', '0'], {
      cwd: packageRoot,
    })
    ended = new Promise((resolve) => service.once('exit', resolve))
    address = await new Promise<string>((resolve) =>
      service.stdout!.once('data', (text: Buffer) => resolve(text.toString().trim())),
    )
  })
  afterAll(() => service.kill('SIGKILL'))

  const endless = { max_tokens: 2000, logit_bias: { '<|im_end|>': -100 } }
  const post = (body: object, signal: AbortSignal | null = null) =>
    fetch(`${address}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ messages, ...body }),
      signal,
    })
  const health = async () =>
    (await (await fetch(`${address}/health`)).json()) as { running: number; status: string }

  it('answers whole and streamed', async () => {
    const completion = (await (await post({})).json()) as { choices: { message: unknown }[] }
    expect(completion.choices[0]?.message).toMatchObject({ role: 'assistant', content: answer })
    const response = await post({ stream: true })
    expect(response.headers.get('content-type')).toMatch(/^text\/event-stream/)
    const events = (await response.text()).trimEnd().split('\n\n')
    expect(events.at(-1)).toBe('data: [DONE]')
    const chunks = events.slice(0, -1).map(
      (event) =>
        JSON.parse(event.slice('data: '.length)) as {
          choices: { delta: { content?: string } }[]
        },
    )
    expect(chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join('')).toBe(answer)
  })

  it('says what is wrong with a request, streamed or not, and reads no files', async () => {
    for (const stream of [false, true]) {
      const wrong = await post({ stream, max_token: 3 })
      expect(wrong.status).toBe(400)
      expect(await wrong.json()).toMatchObject({ error: { code: 'ERR_INVALID_ARGUMENT' } })
      const image = { type: 'image_url', image_url: '/etc/passwd' }
      const file = await post({ stream, messages: [{ role: 'user', content: [image] }] })
      expect(await file.json()).toMatchObject({ error: { code: 'ERR_IMAGE_SOURCE' } })
    }
  })

  it.each([true, false])('stops when the client leaves (streamed: %s)', async (stream) => {
    const controller = new AbortController()
    const leaving = post({ stream, ...endless }, controller.signal).then((response) =>
      response.text(),
    )
    const often = { timeout: 10_000, interval: 5 } // the answer takes a fraction of a second
    await expect.poll(async () => (await health()).running, often).toBe(1)
    controller.abort()
    await expect(leaving).rejects.toThrow()
    await expect.poll(async () => (await health()).running, { timeout: 10_000 }).toBe(0)
  })

  it('ends on SIGTERM when running requests have their answers', async () => {
    const running = await post({ stream: true, ...endless })
    service.kill('SIGTERM')
    expect(await running.text()).toMatch(/data: \[DONE\]\n\n$/)
    expect(await ended).toBe(0)
  })
})
