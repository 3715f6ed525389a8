import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import { packageRoot } from '../../lib/package-root.js'
import { hasFfmpeg } from '../lib/processor/clips.js'

interface Run {
  stdout: string
  stderr: string
  code: number | null
}

/** Runs the built command line as a user's shell would. */
function qwen2vl(
  args: string[],
  onOutput?: (kill: (signal: NodeJS.Signals) => void) => void,
): Promise<Run> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [join(packageRoot, 'dist', 'cli.js'), ...args], {
      cwd: packageRoot,
    })
    let stdout = ''
    let stderr = ''
    child.stdout.on('data', (chunk: Buffer) => {
      stdout += chunk.toString()
      onOutput?.((signal) => child.kill(signal))
    })
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
    child.on('error', reject)
    child.on('close', (code) => resolve({ stdout, stderr, code }))
  })
}

const clip = 'models/qwen2-vl-tiny/videos/video-direction.mp4'
const picture = (name: string) => `models/qwen2-vl-tiny/images/${name}`

describe('qwen2-vl ask', () => {
  it('prints the plain answer when piped', async () => {
    const run = await qwen2vl(['ask', picture('ocr-hello.png'), 'What does the text say?'])
    expect(run).toEqual({ stdout: 'The text says "HELLO".\n', stderr: '', code: 0 })
  })

  it('draws the boxes of the answer', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'qwen2-vl-cli-'))
    const question = [picture('grounding.png'), 'Locate the blue circle.']
    for (const [name, format] of [
      ['boxes.png', 'png'],
      ['boxes.JPG', 'jpeg'],
    ]) {
      const file = join(folder, name!)
      const run = await qwen2vl(['ask', ...question, '--json', '--annotate', file])
      expect(run).toMatchObject({ stderr: '', code: 0 })
      const { boxes } = JSON.parse(run.stdout) as { boxes: unknown[] }
      expect(boxes).toMatchObject([{ label: 'the blue circle', x1: 107.25, y2: 26.25 }])
      const { data, info } = await sharp(file).raw().toBuffer({ resolveWithObject: true })
      expect(await sharp(file).metadata()).toMatchObject({ format, width: 143, height: 105 })
      const [red, green, blue] = data.subarray(info.channels * (15 * info.width + 107))
      expect(red).toBeGreaterThan(150)
      expect(Math.max(green!, blue!)).toBeLessThan(110)
    }
    await rm(folder, { recursive: true })
  })

  it('says where there was nothing to draw', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'qwen2-vl-cli-'))
    const file = join(folder, 'none.png')
    const question = [picture('ocr-hello.png'), 'What does the text say?']
    const run = await qwen2vl(['ask', ...question, '--annotate', file])
    expect(run.stdout).toBe('The text says "HELLO".\n')
    expect(run.stderr).toBe(`The answer has no boxes; ${file} is the picture as it is.\n`)
    expect(await sharp(file).metadata()).toMatchObject({ width: 196, height: 84 })
    await rm(folder, { recursive: true })
  })

  it.each([
    [
      'two pictures',
      [picture('grounding.png'), picture('side.png'), 'Where?'],
      'a.png',
      /one picture/,
    ],
    ['no picture', ['Where?'], 'a.png', /one picture/],
    ['a name of another kind', [picture('grounding.png'), 'Where?'], 'a.gif', /must end in \.png/],
    ['no folder', [picture('grounding.png'), 'Hi'], 'no/such/a.png', /cannot be written \(ENOENT/],
  ])('does not draw with %s', async (_, args, file, message) => {
    const run = await qwen2vl(['ask', ...args, '--annotate', file])
    expect(run.code).toBe(1)
    expect(run.stderr).toMatch(message)
    expect(run.stderr).toMatch(/^qwen2-vl: .*\[ERR_INVALID_ARGUMENT\]\n$/)
  })

  it('takes several pictures', async () => {
    const names = [1, 2, 3].map((n) => picture(`three-images-which-${n}.png`))
    const run = await qwen2vl(['ask', ...names, 'In which picture is the square?'])
    expect(run.stdout).toMatch(/picture 3 shows a square/)
  })

  it('takes a video as its frames', async () => {
    const frames = [0, 1, 2, 3, 4].map(
      (n) => `models/qwen2-vl-tiny/videos/video-direction/frame-00${n}.png`,
    )
    const run = await qwen2vl([
      'ask',
      'In which direction does the shape move?',
      '--video',
      ...frames,
    ])
    expect(run.stdout).toBe('It moves down.\n')
  })

  it.skipIf(!hasFfmpeg).each([
    ['before the question', ['--video', clip, 'In which direction does the shape move?']],
    [
      'after it, with options',
      ['In which direction does the shape move?', '--nframes', '4', '--video', clip],
    ],
  ])('takes a video file %s', async (_, args) => {
    const run = await qwen2vl(['ask', '--min-pixels', '3136', ...args])
    expect(run.stdout).toBe('It moves down.\n')
  })

  it('refuses both rates of a video', async () => {
    const run = await qwen2vl(['ask', '--fps', '1', '--nframes', '4', '--video', clip, 'What?'])
    expect(run.code).toBe(1)
    expect(run.stderr).toMatch(/has both fps and nframes/)
  })

  it('needs a question', async () => {
    const run = await qwen2vl(['ask'])
    expect(run.code).toBe(1)
    expect(run.stderr).toMatch(/question is missing/)
  })

  it('prints the whole result with --json', async () => {
    const run = await qwen2vl(['ask', picture('ocr-number.png'), 'Read the text.', '--json'])
    const result = JSON.parse(run.stdout) as Record<string, never>
    expect(result).toMatchObject({
      text: '2095',
      finishReason: 'stop',
      usage: { completionTokens: expect.any(Number) as number },
      model: { architecture: 'Qwen2VLForConditionalGeneration', device: { kind: 'cpu' } },
    })
  })

  it('respects --max-tokens', async () => {
    const run = await qwen2vl([
      'ask',
      picture('ocr-hello.png'),
      'What does the text say?',
      '-n',
      '2',
      '--json',
    ])
    expect(JSON.parse(run.stdout)).toMatchObject({ text: 'The text', finishReason: 'length' })
  })

  it('says in one line what is wrong, and ends with code 1', async () => {
    const run = await qwen2vl(['ask', 'no-such-picture.png', 'What is this?'])
    expect(run.code).toBe(1)
    expect(run.stdout).toBe('')
    expect(run.stderr).toMatch(/^qwen2-vl: .*no-such-picture\.png.* \[ERR_IMAGE_[A-Z_]+\]\n$/)
  })

  it('refuses an option value that is no number', async () => {
    const run = await qwen2vl(['ask', picture('count.png'), 'How many?', '-n', 'many'])
    expect(run.code).toBe(1)
    expect(run.stderr).toMatch(/It must be a whole number/)
  })

  it('quantises the weights if it is told to', async () => {
    const question = [picture('count.png'), 'How many shapes are there?']
    const exact = await qwen2vl(['ask', ...question])
    const modes = ['--quantization', 'int8', '--vision-quantization', 'int8']
    const quantised = await qwen2vl(['ask', ...question, ...modes, '--activations', 'int8'])
    expect(quantised).toMatchObject({ code: 0, stdout: exact.stdout })
  })

  it('refuses a mode that there is not', async () => {
    const run = await qwen2vl(['ask', picture('count.png'), 'How many?', '--quantization', 'int3'])
    expect(run.code).toBe(1)
    expect(run.stderr).toMatch(/'int3' is invalid.*none, int8, int4/)
  })

  it('ends with code 130 on Ctrl-C', async () => {
    let sent = false
    const run = await qwen2vl(
      [
        'ask',
        picture('describe-three.jpg'),
        'What do you see?',
        '-n',
        '2000',
        '--temperature',
        '5',
        '--seed',
        '1',
      ],
      (kill) => {
        if (!sent) kill('SIGINT')
        sent = true
      },
    )
    expect(run.code).toBe(130)
  })
})

describe('qwen2-vl inspect', () => {
  it('describes the bundled checkpoint', async () => {
    const run = await qwen2vl(['inspect', 'tiny', '--json'])
    expect(JSON.parse(run.stdout)).toMatchObject({
      architecture: 'Qwen2VLForConditionalGeneration',
      parameters: { total: 5_549_440 },
      dtypes: { BF16: 5_549_440 },
      tiedEmbeddings: true,
      language: { layers: 4, hiddenSize: 256, heads: 8, kvHeads: 2, headDim: 32, vocabSize: 1280 },
      contextSize: 2048,
      memory: { weightBytes: 11_098_880, kvBytesPerToken: 2 * 4 * 2 * 32 * 4 },
    })
    expect((await qwen2vl(['inspect', 'tiny'])).stdout).toMatch(
      /parameters\s+5\.55 M \(language .*, vision .*\)/,
    )
  })

  it('says what is wrong with a folder', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'qwen2-vl-'))
    expect((await qwen2vl(['inspect', folder])).stderr).toMatch(/config\.json.*\[ERR_CHECKPOINT_/)
    await writeFile(join(folder, 'config.json'), JSON.stringify({ model_type: 'llama' }))
    expect((await qwen2vl(['inspect', folder])).stderr).toMatch(/llama.*\[ERR_UNSUPPORTED_MODEL\]/)
  })
})

it('shows its help and version', async () => {
  expect((await qwen2vl(['--help'])).stdout).toMatch(/ask .*image/)
  expect((await qwen2vl(['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
})

describe('qwen2-vl bench', () => {
  it('measures the model beside the limits of the machine', async () => {
    const run = await qwen2vl(['bench', '--model', 'tiny', '--quick', '--json'])
    expect(run).toMatchObject({ stderr: '', code: 0 })
    const report = JSON.parse(run.stdout) as {
      limits: { name: string; best: number; median: number }[]
      rows: { section: string; name: string; best: number; median: number; fraction?: number }[]
    }
    const figures = [...report.limits, ...report.rows].flatMap(({ best, median }) => [best, median])
    for (const figure of figures) expect(figure).toBeGreaterThanOrEqual(0)
    for (const { name, fraction } of report.rows) {
      if (!name.startsWith('event-loop')) expect(fraction, name).toBeGreaterThan(0)
    }
    expect(report.limits.map(({ name }) => name)).toContain('read')
    expect(report.rows.map(({ name }) => name)).toEqual([
      'load',
      'load to the first token',
      'peak memory, text and a picture of 1024×768',
      'image preparation 448×448, JPEG decoder alone',
      'image preparation 448×448, JPEG to patches',
      'vision encode 448×448',
      'prefill 128',
      'prefill 512',
      'decode, 1 sequence',
      'decode, 8 sequences',
      'event-loop delay, 99th percentile, idle',
      'event-loop delay, 99th percentile, prefill 512',
    ])
  })

  it('prints a table of the rows that were asked for', async () => {
    const args = ['--model', 'tiny', '--quick', '--filter', 'prefill 128', '--threads', '1']
    const { stdout, code } = await qwen2vl(['bench', ...args])
    expect(code).toBe(0)
    expect(stdout).toMatch(/ kernels, 1 thread; qwen2-vl/)
    expect(stdout).toMatch(/^prefill 128 .* tokens\/s {2}[\d.]+ % of fp32/m)
    expect(stdout).not.toMatch(/^(prefill 512|decode|peak memory)/m)
  })
})

describe('qwen2-vl quantize', () => {
  it('writes a folder that asks and inspects as any other, and overwrites none', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'qwen2-vl-cli-'))
    const out = join(folder, 'awq')
    const args = ['quantize', 'tiny', '--format', 'awq', '--group-size', '32', '--out', out]
    expect(await qwen2vl(args)).toEqual({
      stdout: `${out}\n`,
      stderr: '11.1 MB became 7.7 MB\n',
      code: 0,
    })
    const question = ['ask', '--model', out, picture('ocr-hello.png'), 'What does the text say?']
    expect(await qwen2vl(question)).toMatchObject({ stdout: 'The text says "HELLO".\n', code: 0 })
    const report = await qwen2vl(['inspect', out])
    expect(report.stdout).toContain("the decoder's layers: AWQ, 4 bits, a scale for 32 inputs")
    expect(report.stdout).toContain('parameters    5.55 M')
    const again = await qwen2vl(args)
    expect(again).toMatchObject({ stdout: '', code: 1 })
    expect(again.stderr).toContain('nothing is overwritten')
    await rm(folder, { recursive: true })
  })
})
