/** docs/kernels.md */
import type { Counters } from './counters.js'
import { assumedShare, contextTokens, formats, gaps } from '../../lib/bench/decode-model.js'
import type { Prediction } from '../../lib/bench/decode-model.js'
import { gpus } from '../../lib/bench/gpus.js'
import type { Occupancy, Violation } from './thresholds.js'

export interface Report {
  toolkit: string
  /** Bytes of the embedded, compressed modules. */
  fatbins: Record<string, number>
  kernels: Occupancy[]
  counters: Counters[]
  predictions: Prediction[]
  violations: Violation[]
}

export function writeDocument(report: Report): string {
  return [
    '# The CUDA kernels in figures',
    'Written by `npm run kernels:report`; edit nothing here. Nothing in this file was measured on a GPU: resources are what ptxas says, counts are of the simulator that executes the PTX, times are a model.',
    ...verdict(report.violations),
    '## Resources',
    `Registers, and warps that a multiprocessor holds at once, by the toolkit's \`cuda_occupancy.h\` (${report.toolkit}). Threads and shared memory are those of the widths of the 7B model where a kernel is one of its decode step, and else of the largest launch of the kernel's tests. Kernels for bf16 and fp16 whose figures agree share a line.`,
    resources(report.kernels),
    '## Counted',
    'On the PTX for compute capability 8.0. Sectors and bank cycles are relative to the fewest that the bytes asked for need; what is read past the L1 cache is relative to the bytes of weights, or keys and values. Instructions of PTX for each weight, or number of keys and values, include everything around the inner loop, and are more than the machine issues: moves and pairs of logical operations vanish. Decode kernels were launched in the widths of the 7B model, others as their tests launch them.',
    counted(report.counters),
    '## Modelled time of a token',
    `One sequence with ${contextTokens} tokens of context. A kernel reads its bytes at ${100 * assumedShare} % of the memory's peak, which is an assumption, or takes as long as its counted instructions take to issue where that is more; between kernels pass ${gaps.plain} µs, or ${gaps.dependent} µs with dependent launch. The floor is all bytes at peak and nothing else. int8 and int4 are groups of 128, int4 with zero points: ${formats.int8.bits} and ${formats.int4.bits} bits a weight; the head stays in bf16. Ramp-up and tail of small kernels are not modelled, which flatters the 2B model most.`,
    predicted(report.predictions),
    '## Modules',
    'Bytes of each family as embedded, compressed, for all architectures.',
    table(
      ['family', 'bytes'],
      Object.entries(report.fatbins).map(([family, bytes]) => [family, bytes]),
    ),
    '',
  ].join('\n\n')
}

function verdict(violations: readonly Violation[]): string[] {
  if (violations.length === 0) return ['All kernels keep to their limits.']
  const lines = violations.map((violation) => [
    code(violation.kernel),
    violation.arch ?? 'all',
    violation.metric,
    fixed(violation.value),
    fixed(violation.limit),
    violation.waived ?? '**not excused**',
  ])
  return [
    'Kernels outside their limits:',
    table(['kernel', 'sm', 'figure', 'is', 'limit', 'excused because'], merge(lines)),
  ]
}

/** Lines that differ in their architecture only become one. */
function merge(lines: (string | number)[][]): (string | number)[][] {
  const merged = new Map<string, (string | number)[]>()
  for (const [kernel = '', arch = '', ...rest] of lines) {
    const key = [kernel, ...rest].join('|')
    const known = merged.get(key)
    if (known) known[1] = `${known[1] ?? ''}, ${arch}`
    else merged.set(key, [kernel, arch, ...rest])
  }
  return [...merged.values()]
}

function resources(kernels: readonly Occupancy[]): string {
  const archs = [...new Set(kernels.map(({ arch }) => arch))].sort((a, b) => a - b)
  const names = [...new Set(kernels.map(({ kernel }) => kernel))].sort()
  const lines = names.map((name) => {
    const of = kernels.filter(({ kernel }) => kernel === name)
    return [
      name,
      of[0]?.threads ?? 0,
      of[0]?.sharedBytes ?? 0,
      ...archs.map((arch) => {
        const kernel = of.find((one) => one.arch === arch)
        if (!kernel) return '–'
        const spills = kernel.spillStores + kernel.spillLoads + kernel.stack
        return `${kernel.registers} · ${kernel.warps}${spills > 0 ? ` · spills ${spills}` : ''}`
      }),
    ]
  })
  return table(
    ['kernel', 'threads', 'shared', ...archs.map((arch) => `sm_${arch}`)],
    shareTypes(lines),
  )
}

function counted(counters: readonly Counters[]): string {
  return table(
    ['kernel', 'sectors', 'bank cycles', 'read', 'instructions/number'],
    shareTypes(
      counters.map((one) => [
        one.kernel,
        fixed(one.sectorRatio),
        fixed(one.bankRatio),
        one.readPerByte === undefined ? '–' : fixed(one.readPerByte),
        one.instructionsPerNumber === undefined ? '–' : fixed(one.instructionsPerNumber),
      ]),
    ),
  )
}

/** `x_bf16` and `x_fp16` with equal figures become `x_*`. */
function shareTypes(lines: (string | number)[][]): (string | number)[][] {
  const keyOf = ([name, ...figures]: (string | number)[]): string =>
    [String(name).replace(/_(bf16|fp16)$/, '_*'), ...figures].join('|')
  const counts = new Map<string, number>()
  for (const line of lines) counts.set(keyOf(line), (counts.get(keyOf(line)) ?? 0) + 1)
  return lines
    .filter(([name, ...rest]) => {
      const isSecond = String(name).endsWith('_fp16')
      return !(isSecond && counts.get(keyOf([name ?? '', ...rest])) === 2)
    })
    .map(([name, ...rest]) => {
      const both = counts.get(keyOf([name ?? '', ...rest])) === 2
      return [code(both ? String(name).replace(/_bf16$/, '_*') : String(name)), ...rest]
    })
}

function predicted(predictions: readonly Prediction[]): string {
  const rows = new Map<string, (string | number)[]>()
  for (const one of predictions) {
    const key = `${one.model} ${one.format}`
    const row = rows.get(key) ?? [key, fixed(one.gigabytes)]
    const bound =
      one.instructionBound.length > 0 ? ` (${one.instructionBound.join(', ')}: issue)` : ''
    row.push(
      one.fits
        ? `${one.milliseconds.toFixed(2)} ms, ${one.tokensPerSecond.toFixed(0)}/s, ${(100 * one.shareOfPeak).toFixed(0)} %${bound}`
        : 'does not fit',
    )
    rows.set(key, row)
  }
  return table(
    ['model', 'GB read', ...Object.values(gpus).map(({ name }) => name)],
    [...rows.values()],
  )
}

function table(head: string[], rows: (string | number)[][]): string {
  const line = (cells: (string | number)[]): string => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')
}
function code(text: string): string {
  return `\`${text}\``
}
function fixed(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toFixed(2)
}
