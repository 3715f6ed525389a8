/**
 * Runs engines in turn, round after round, and prints their figures as a table.
 *
 *     npx tsx bench/peers/compare.ts [--rounds 3] [--json] --engine '<name>=<command>' --engine '<name>=<command>' …
 *
 * A command prints a line of JSON for each case (cases.ts); what else it prints is passed over. The first
 * engine is what the others are compared with. README.md in this folder has the commands.
 */
import { spawnSync } from 'node:child_process'
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { median } from '../../lib/bench/report.js'
import { cases, type Figure } from './cases.js'

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    engine: { type: 'string', multiple: true, default: [] },
    json: { type: 'boolean', default: false },
  },
})

interface Engine {
  name: string
  command: string
  /** By case, one of each round. */
  figures: Map<string, number[]>
}

const engines = options.engine.map((text): Engine => {
  const at = text.indexOf('=')
  if (at < 1) throw new Error(`--engine '${text}' is not of the form '<name>=<command>'`)
  return { name: text.slice(0, at), command: text.slice(at + 1), figures: new Map() }
})
for (let round = 0; round < Number(options.rounds); round++) engines.forEach(run)

const processor = cpus()[0]?.model.trim() ?? 'unknown processor'
if (options.json) {
  const plain = engines.map(({ figures, ...engine }) => ({
    ...engine,
    figures: Object.fromEntries(figures),
  }))
  console.log(JSON.stringify({ processor, engines: plain }, null, 2))
} else {
  console.log(`${processor}; best (median) of ${options.rounds} rounds\n`)
  for (const line of table()) console.log(line)
}

/** Adds the figures of one run of the engine. */
function run({ name, command, figures }: Engine): void {
  const { stdout, stderr, status } = spawnSync(command, { shell: true, encoding: 'utf8' })
  if (status !== 0) throw new Error(`${name} ended with ${status}:\n${stderr.slice(-2000)}`)
  for (const line of stdout.split('\n').filter((line) => line.startsWith('{'))) {
    const figure = JSON.parse(line) as Figure
    if (figure.case in cases)
      figures.set(figure.case, [...(figures.get(figure.case) ?? []), figure.value])
  }
}

/** A Markdown table: cases down, engines across, each with how many times as fast the first one is. */
function table(): string[] {
  const row = (cells: string[]) => `| ${cells.join(' | ')} |`
  const names = engines.map(({ name }) => name)
  return [
    row(['', ...names]),
    row(['---', ...names.map(() => '---')]),
    ...Object.entries(cases).map(([name, unit]) => {
      const base = bestOf(engines[0], name)
      return row([`${name}, ${unit}`, ...engines.map((engine, i) => cell(engine, name, i && base))])
    }),
  ]
}

function cell(engine: Engine, name: string, base: number | undefined): string {
  const best = bestOf(engine, name)
  if (best === undefined) return '–'
  const figures = `${digits(best)} (${digits(median(engine.figures.get(name) ?? []))})`
  if (!base) return figures
  const times = cases[name] === 's' ? best / base : base / best
  return `${figures}, **${times.toFixed(2)} ×**`
}

function bestOf(engine: Engine | undefined, name: string): number | undefined {
  const values = engine?.figures.get(name)
  if (!values) return undefined
  return cases[name] === 's' ? Math.min(...values) : Math.max(...values)
}

function digits(value: number): string {
  return value.toPrecision(3)
}
