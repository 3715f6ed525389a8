/** The conversations of test/golden/prompts, as requests, and what the reference makes of them. */
import { createReadStream, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import sharp from 'sharp'
import type { GenerateRequest, ImageSource, LoadModelOptions } from '../../lib/index.js'
import { packageRoot } from '../../lib/package-root.js'

export interface PixelLimits {
  minPixels: number
  maxPixels: number
}

/** What record.py wrote about one conversation; its opening comment says what each part is. */
export interface Recorded {
  text: string
  ids: number[]
  imageGrids: number[][]
  imagePatches?: string
  videoGrids: number[][]
  videoPatches?: string
  positions: string
  delta: number
  answer?: number[]
  answerText?: string
}

export interface RecordedPrompt {
  name: string
  /**
   * Made anew at each call: streams can be read only once. `origin` serves the files of the repository.
   */
  request: (origin: string) => GenerateRequest
  checkpoint: CheckpointChoice
  recorded: Recorded
}

/** The bundled checkpoint, with other limits in its files or rules given when it is loaded. */
export interface CheckpointChoice {
  limits?: PixelLimits
  loadOptions?: LoadModelOptions
}

const folder = join(packageRoot, 'test', 'golden', 'prompts')
const readJson = (name: string): unknown => JSON.parse(readFileSync(join(folder, name), 'utf8'))

type Conversation = { name: string } & CheckpointChoice & Record<string, unknown>
type Stored = Partial<Recorded> & { ids: string }

export function recordedPrompts(): RecordedPrompt[] {
  const recorded = readJson('prompts.json') as Record<string, Stored>
  const conversations = readJson('conversations.json') as Conversation[]
  return conversations.map(({ name, limits, loadOptions, ...request }) => ({
    name,
    request: (origin) => withSources(request, origin) as GenerateRequest,
    checkpoint: { ...(limits && { limits }), ...(loadOptions && { loadOptions }) },
    recorded: {
      imageGrids: [],
      videoGrids: [],
      ...recorded[name],
      ids: unpackRuns(recorded[name]!.ids),
    } as Recorded,
  }))
}

/** "1247 490 1258*16" as ids. */
function unpackRuns(text: string): number[] {
  return text.split(' ').flatMap((run) => {
    const [id, length = 1] = run.split('*').map(Number)
    return new Array<number>(length).fill(id!)
  })
}

/** Replaces what stands for a source, wherever it stands. */
function withSources(value: unknown, origin: string, key = ''): unknown {
  if (typeof value === 'string') return sourceKeys.includes(key) ? join(packageRoot, value) : value
  if (Array.isArray(value)) return value.map((item) => withSources(item, origin, key))
  if (typeof value !== 'object' || value === null) return value
  const [kind, argument] = Object.entries(value as Record<string, unknown>)[0] ?? ['', '']
  if (kind === '$pixels') return formulaPixels(...(argument as FormulaSize))
  if (kind === '$http') return `${origin}/${argument as string}`
  if (kind === '$dataUrl') {
    const { mediaType } = value as { mediaType: string }
    return `data:${mediaType};base64,${read(argument as string).toString('base64')}`
  }
  if (kind.startsWith('$')) return sourceMakers[kind]!(join(packageRoot, argument as string))
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [name, withSources(item, origin, name)]),
  )
}

const sourceKeys = ['image', 'image_url', 'url', 'video']
const read = (path: string) => readFileSync(join(packageRoot, path))

/** The ways to hand over a file, by their names in conversations.json. */
const sourceMakers: Record<string, (file: string) => unknown> = {
  $bytes: (file) => readFileSync(file),
  $arrayBuffer: (file) => Uint8Array.from(readFileSync(file)).buffer,
  $dataView: (file) => {
    const bytes = Buffer.concat([Buffer.alloc(100, 7), readFileSync(file), Buffer.alloc(50, 7)])
    return new DataView(bytes.buffer, bytes.byteOffset + 100, bytes.length - 150)
  },
  $sharedBytes: (file) => {
    const bytes = readFileSync(file)
    const shared = new Uint8Array(new SharedArrayBuffer(bytes.length))
    shared.set(bytes)
    return shared
  },
  $base64: (file) => readFileSync(file).toString('base64'),
  $blob: (file) => new Blob([readFileSync(file)]),
  $stream: (file) => createReadStream(file, { highWaterMark: 1000 }),
  $webStream: (file) => new Blob([readFileSync(file)]).stream(),
  $sharp: (file) => sharp(file),
  $url: (file) => pathToFileURL(file),
  $fileUrl: (file) => pathToFileURL(file).href,
}

type FormulaSize = [width: number, height: number, channels: 1 | 2 | 3 | 4]

function formulaPixels(...[width, height, channels]: FormulaSize): ImageSource {
  const data = new Uint8Array(width * height * channels)
  let i = 0
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < channels; c++) {
        data[i++] = (7 * x + 3 * y + 31 * c + Math.floor((x * y) / 8)) % 256
      }
    }
  }
  return { data, width, height, channels }
}
