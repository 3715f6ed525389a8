/** A benchmark's report as text for people. */
import { isBandwidth, type Limit, type Report, type Row } from './report.js'

const titles = { kernels: 'Kernels alone', model: 'The model' } as const

const SIMULATED =
  'The GPU is simulated: no time below says anything about a GPU, or about the processor.'

/** The report as a table: best and median of the runs, and the fraction of the limit. */
export function formatTable(report: Report): string {
  const { processor, instructionSet, threads, model } = report
  const lines = [
    `${processor}, ${instructionSet} kernels, ${threads} thread${threads === 1 ? '' : 's'}; ` +
      `qwen2-vl ${report.package}, Node.js ${report.node}`,
    `${model.folder}: ${(model.parameters / 1e6).toFixed(0)} M parameters in ` +
      `${(model.weightBytes / 1e9).toFixed(2)} GB (${storage(model)})`,
    ...(report.isSimulated ? [SIMULATED] : []),
    ...(report.limits.length > 0 ? section('The machine', report.limits.map(limitCells)) : []),
  ]
  for (const name of ['kernels', 'model'] as const) {
    const rows = report.rows.filter((row) => row.section === name)
    if (rows.length > 0) lines.push(...section(titles[name], rows.map(rowCells)))
  }
  return lines.join('\n') + '\n'
}

/** Name, best, median, unit, share. */
type Cells = [name: string, best: string, median: string, unit: string, share: string]

function section(title: string, rows: readonly Cells[]): string[] {
  const all: Cells[] = [[title, 'best', 'median', '', ''], ...rows]
  const width = (column: 0 | 1 | 2 | 3) => Math.max(...all.map((cells) => cells[column].length))
  const [name, best, median, unit] = [width(0), width(1), width(2), width(3)]
  return [
    '',
    ...all.map((cells) =>
      [
        cells[0].padEnd(name),
        cells[1].padStart(best),
        cells[2].padStart(median),
        cells[3].padEnd(unit),
        cells[4],
      ]
        .join('  ')
        .trimEnd(),
    ),
  ]
}

function limitCells({ name, best, median }: Limit): Cells {
  const isRate = isBandwidth({ name }) || name === 'copy'
  const unit = isRate ? 'GB/s' : /^(fp32|16-bit)/.test(name) ? 'GFLOP/s' : 'Gop/s'
  return [name, digits(best / 1e9), digits(median / 1e9), unit, '']
}

function rowCells(row: Row): Cells {
  const { name, best, median, unit, fraction, limit, limitRate, modelled } = row
  const rate = limitRate === undefined ? '' : ` (${digits(limitRate / 1e9)})`
  const share = fraction === undefined ? '' : `${percent(fraction)} of ${limit}${rate}`
  const model =
    modelled === undefined ? '' : `${percent(best / modelled)} of the model's ${digits(modelled)}`
  const shares = [share, model].filter((text) => text !== '').join('; ')
  return [name, digits(best), digits(median), unit, shares]
}

/** Three significant digits, without exponents. */
function digits(value: number): string {
  if (value >= 100 || value === 0) return value.toFixed(0)
  return value.toFixed(Math.min(Math.max(2 - Math.floor(Math.log10(value)), 0), 5))
}

function percent(fraction: number): string {
  const value = 100 * fraction
  return `${value < 9.95 ? value.toFixed(1) : value.toFixed(0)} %`
}

/** What the weights are kept as. */
function storage({
  dtype,
  quantization,
  visionQuantization,
  activations,
}: Report['model']): string {
  const parts = [
    ...(quantization === 'none' ? [] : [`decoder ${quantization}`]),
    ...(visionQuantization === 'none' ? [] : [`vision ${visionQuantization}`]),
    ...(activations === 'fp32' ? [] : [`${activations} activations`]),
  ]
  return [dtype, ...parts].join(', ')
}
