/** The examples run as a reader would run them, with the built package and the bundled checkpoint. */
import { execFile } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
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
  'add-vision-id': [
    `addVisionId: false, 32 tokens of text: ${sameShape}`,
    `addVisionId: true, 42 tokens of text: ${sameShape}`,
  ],
}

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
  const runnable = Object.entries(printed).filter(([name]) => hasFfmpeg || name !== 'video-file')

  it.concurrent.each(runnable)('%s', async (name, lines) => {
    expect(await run(name)).toEqual(lines)
  })

  it('are all tested, and say how they are run', () => {
    const names = readdirSync(folder).map((file) => file.replace(/\.ts$/, ''))
    // The demo is an application of its own, which the gate runs.
    expect(names.sort()).toEqual([...Object.keys(printed), 'demo', 'url'].sort())
    const fromPython = readFileSync(join(packageRoot, 'docs', 'from-python.md'), 'utf8')
    for (const name of names.filter((each) => each !== 'demo')) {
      const code = readFileSync(join(folder, `${name}.ts`), 'utf8')
      expect(code).toMatch(/^\/\*\*\n \* \S/)
      expect(code).toContain(` *     npx tsx examples/${name}.ts`)
      expect(code).toContain("from 'qwen2-vl'")
      expect(fromPython).toContain(`(../examples/${name}.ts)`)
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
