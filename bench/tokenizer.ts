/**
 * The tokenizer with the real vocabulary of Qwen2: how long it takes to load, and tokens per second.
 *
 *     npx tsx bench/tokenizer.ts [--folder <checkpoint>] [--json]
 *
 * Without --folder the vocabulary is that of a development dependency. Texts are what this repository
 * is made of: English from its licence and documents, TypeScript from lib/, Chinese from a sentence
 * whose words are shuffled.
 * "first" is a new tokenizer's first pass over a text, when it knows none of
 * its words yet; the other figures are medians over passes that follow.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { packageRoot } from '../lib/package-root.js'
import { Tokenizer, type TokenizerFiles } from '../lib/tokenizer/tokenizer.js'

const { values: options } = parseArgs({
  options: { folder: { type: 'string' }, json: { type: 'boolean', default: false } },
})
const dependency = join(packageRoot, 'node_modules', '@lenml', 'tokenizer-qwen2_5', 'models')
const passes = 25

interface Row {
  name: string
  value: number
  unit: 'ms' | 'M tokens/s'
}

const files = readTokenizerFiles(options.folder ?? dependency)
const rows: Row[] = [await benchLoading(files)]
for (const [name, text] of Object.entries(texts()))
  rows.push(...(await benchText(name, text, files)))

const processor = cpus()[0]?.model.trim() ?? 'unknown processor'
const runtime = `${processor}, one thread, Node.js ${process.version}`
if (options.json) {
  console.log(JSON.stringify({ processor, node: process.version, rows }, null, 2))
} else {
  console.log(`${runtime}\n`)
  for (const { name, value, unit } of rows) {
    console.log(`${name.padEnd(28)} ${value.toFixed(unit === 'ms' ? 0 : 2).padStart(8)} ${unit}`)
  }
}

function readTokenizerFiles(folder: string): TokenizerFiles {
  return { tokenizerJson: readFileSync(join(folder, 'tokenizer.json'), 'utf8') }
}

/** From the text of the file to the first ids. */
async function benchLoading(given: TokenizerFiles): Promise<Row> {
  const times: number[] = []
  for (let i = 0; i < 7; i++) {
    const begin = performance.now()
    const tokenizer = await Tokenizer.load(given)
    tokenizer.encode('Hello')
    times.push(performance.now() - begin)
  }
  return { name: 'load', value: median(times), unit: 'ms' }
}

async function benchText(name: string, text: string, given: TokenizerFiles): Promise<Row[]> {
  const tokenizer = await Tokenizer.load(given)
  const ids = tokenizer.encode(text)
  const back = tokenizer.decode(ids, { skipSpecialTokens: false })
  if (back !== text.normalize('NFC')) throw new Error(`${name} does not come back`)
  const speed = (milliseconds: number) => ids.length / milliseconds / 1000

  // A tokenizer that has not seen the text, in a process whose code is warm.
  const firstTimes: number[] = []
  for (let i = 0; i < 5; i++) {
    const fresh = await Tokenizer.load(given)
    firstTimes.push(timed(() => fresh.encode(text)))
  }
  const first = speed(median(firstTimes))
  const encode = speed(medianOf(() => tokenizer.encode(text)))
  const decode = speed(medianOf(() => tokenizer.decode(ids)))
  const streamed = speed(
    medianOf(() => {
      const decoder = tokenizer.createDecoder()
      for (const id of ids) decoder.push(id)
    }),
  )
  const what = `${name} (${ids.length.toLocaleString('en')} tokens)`
  return [
    { name: what, value: encode, unit: 'M tokens/s' },
    { name: '  first', value: first, unit: 'M tokens/s' },
    { name: '  decode', value: decode, unit: 'M tokens/s' },
    { name: '  decode, token by token', value: streamed, unit: 'M tokens/s' },
  ]
}

function texts(): Record<string, string> {
  const read = (...path: string[]) => readFileSync(join(packageRoot, ...path), 'utf8')
  const english = read('LICENSE') + read('README.md') + read('docs', 'architecture.md')
  const code = readdirSync(join(packageRoot, 'lib', 'tokenizer')).sort()
  const words = [
    '请',
    '描述',
    '这张',
    '图片',
    '，',
    '里面',
    '有',
    '什么',
    '文字',
    '？',
    '视频',
    '中',
    '。',
  ]
  const chinese = Array.from({ length: 20_000 }, (_, i) => words[(i * i * 7 + i) % 13]!)
  return {
    English: english,
    TypeScript: code.map((name) => read('lib', 'tokenizer', name)).join(''),
    Chinese: chinese.join(''),
  }
}

function timed(run: () => unknown): number {
  const begin = performance.now()
  run()
  return performance.now() - begin
}

function medianOf(run: () => unknown): number {
  return median(Array.from({ length: passes }, () => timed(run)))
}

function median(values: number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? NaN
}
