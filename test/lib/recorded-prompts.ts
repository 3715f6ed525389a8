/** The conversations of test/golden/prompts, as requests, and what the reference makes of them. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { GenerateRequest, ImageSource } from '../../lib/index.js'
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
  /** Made anew at each call: streams can be read only once. */
  request: () => GenerateRequest
  /** Of the checkpoint; undefined for those of the bundled one. */
  limits: PixelLimits | undefined
  recorded: Recorded
}

const folder = join(packageRoot, 'test', 'golden', 'prompts')
const readJson = (name: string): unknown => JSON.parse(readFileSync(join(folder, name), 'utf8'))

type Conversation = { name: string; limits?: PixelLimits } & Record<string, unknown>
type Stored = Partial<Recorded> & { ids: string }

export function recordedPrompts(): RecordedPrompt[] {
  const recorded = readJson('prompts.json') as Record<string, Stored>
  return (readJson('conversations.json') as Conversation[]).map(({ name, limits, ...request }) => ({
    name,
    request: () => withSources(request) as GenerateRequest,
    limits,
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
function withSources(value: unknown, key = ''): unknown {
  if (typeof value === 'string') return isSourceKey(key) ? join(packageRoot, value) : value
  if (Array.isArray(value)) return value.map((item) => withSources(item, key))
  if (typeof value !== 'object' || value === null) return value
  const [first] = Object.keys(value)
  if (first?.startsWith('$')) return sourceOf(value)
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [name, withSources(item, name)]),
  )
}

const isSourceKey = (key: string) => ['image', 'image_url', 'url', 'video'].includes(key)

type Stand = Partial<
  Record<'$bytes' | '$arrayBuffer' | '$url' | '$fileUrl' | '$dataUrl' | 'mediaType', string>
> & { $pixels?: [width: number, height: number, channels: 1 | 2 | 3 | 4] }

function sourceOf(stand: Stand): ImageSource {
  const { $bytes, $arrayBuffer, $url, $fileUrl, $dataUrl, mediaType, $pixels } = stand
  const read = (path: string) => readFileSync(join(packageRoot, path))
  if ($pixels) return formulaPixels(...$pixels)
  if ($bytes) return read($bytes)
  if ($arrayBuffer) return Uint8Array.from(read($arrayBuffer)).buffer
  if ($url) return pathToFileURL(join(packageRoot, $url))
  if ($fileUrl) return pathToFileURL(join(packageRoot, $fileUrl)).href
  if ($dataUrl && mediaType) return `data:${mediaType};base64,${read($dataUrl).toString('base64')}`
  throw new Error(`no source is written as ${JSON.stringify(stand)}`)
}

function formulaPixels(width: number, height: number, channels: 1 | 2 | 3 | 4): ImageSource {
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
