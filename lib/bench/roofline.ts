/** The roofline picture: what kernels reach, below what memory and arithmetic allow. */
import {
  arithmeticLimit,
  isBandwidth,
  operationsOf,
  type Limit,
  type Report,
  type Row,
} from './report.js'

/** A kernel in the picture: operations per byte, and operations a second. */
interface Point {
  label: string
  intensity: number
  rate: number
  fraction: number
  colour: string
}

interface Box {
  x: number
  y: number
  width: number
  height: number
}

const PLOT: Box = { x: 80, y: 60, width: 720, height: 520 }
const LEGEND_X = PLOT.x + PLOT.width + 30
const LEGEND_LINE = 15
const FONT = 11
/** Width of a letter, on the safe side. */
const LETTER = 6.5

/** By the first word of a kernel's name. */
const colours: Readonly<Record<string, string>> = {
  GEMV: '#0b6e99',
  GEMM: '#b5420e',
  attention: '#2f7d32',
}
const otherColour = '#5e35b1'

/**
 * Draws the kernels of a report that compute something, as an SVG document. The roofs are medians of the whole
 * run, the fractions compare each kernel with the limits of its own time: so a dot may lie above a roof.
 */
export function drawRoofline(report: Report): string {
  const points = report.rows.flatMap(toPoint).sort((a, b) => a.intensity - b.intensity)
  const roofs = roofsOf(report)
  const read = report.limits.find(isBandwidth)
  const scale = scaleFor(points, roofs, read)
  const height = Math.max(PLOT.y + PLOT.height + 70, PLOT.y + (points.length + 2) * LEGEND_LINE)
  const width = LEGEND_X + 430
  const body = [
    title(report),
    ...axes(scale),
    ...(read ? drawRoofs(scale, read, roofs) : []),
    ...drawPoints(scale, points, roofLabels(roofs, scale)),
    ...drawLegend(points),
  ]
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" ` +
    `font-family="sans-serif" font-size="${FONT}" fill="#222">\n` +
    `<rect width="${width}" height="${height}" fill="#fff"/>\n${body.join('\n')}\n</svg>\n`
  )
}

function toPoint({ section, name, fraction = 0, work, best, unit }: Row): Point[] {
  const operations = work ? operationsOf(work) : 0
  if (section !== 'kernels' || !work || operations === 0) return []
  const seconds = (unit === 'GB/s' ? work.bytes : operations) / 1e9 / best
  const [kind = ''] = name.split(' ')
  return [
    {
      ...{ label: name, fraction, colour: colours[kind] ?? otherColour },
      ...{ intensity: operations / work.bytes, rate: operations / seconds },
    },
  ]
}

/** The arithmetic limits, and whether the kernels of the report use them. */
interface Roof {
  limit: Limit
  isUsed: boolean
}

function roofsOf({ limits, rows, instructionSet }: Report): Roof[] {
  const kinds = (['fp32', 'int8'] as const).filter((kind) => rows.some(({ work }) => work?.[kind]))
  const used = kinds.map((kind) => arithmeticLimit(kind, limits, instructionSet))
  return limits
    .filter((limit) => !isBandwidth(limit) && limit.name !== 'copy')
    .map((limit) => ({ limit, isUsed: used.includes(limit) }))
}

// ---- scales ----

/** Logarithmic axes: their marks, and the place of a value on the picture. */
interface Scale {
  x: (value: number) => number
  y: (value: number) => number
  marksX: Marks
  marksY: Marks
}

/** Round values that an axis runs along. */
interface Marks {
  first: number
  last: number
  all: number[]
}

function scaleFor(points: readonly Point[], roofs: readonly Roof[], read?: Limit): Scale {
  const intensities = points.map((point) => point.intensity)
  const rates = [...points.map((point) => point.rate), ...roofs.map(({ limit }) => limit.median)]
  // Where every roof begins should be seen as well.
  if (read) intensities.push(...roofs.map(({ limit }) => limit.median / read.median))
  const marksX = marksAround(intensities)
  const marksY = marksAround(rates)
  const place = ({ first, last }: Marks, value: number) =>
    Math.log(value / first) / Math.log(last / first)
  return {
    x: (value) => PLOT.x + PLOT.width * place(marksX, value),
    y: (value) => PLOT.y + PLOT.height * (1 - place(marksY, value)),
    marksX,
    marksY,
  }
}

/** 1, 2 and 5 times powers of ten, from well below the least value to well above the greatest. */
function marksAround(values: readonly number[]): Marks {
  const room = 1.25
  const least = Math.min(...values) / room
  const greatest = Math.max(...values) * room
  const steps = [1, 2, 5]
  const mark = (i: number) => (steps[((i % 3) + 3) % 3] ?? 1) * 10 ** Math.floor(i / 3)
  let from = 3 * Math.floor(Math.log10(least))
  while (mark(from + 1) <= least) from++
  let to = from + 1
  while (mark(to) < greatest) to++
  const all = Array.from({ length: to - from + 1 }, (_, i) => mark(from + i))
  return { first: mark(from), last: mark(to), all }
}

// ---- parts of the picture ----

function title({ processor, threads, instructionSet, package: version }: Report): string {
  const text =
    `Kernels of qwen2-vl ${version} on ${processor}, ${threads} threads, ` +
    `${instructionSet} kernels`
  return label(PLOT.x, 30, text, { size: 16 })
}

function axes({ x, y, marksX, marksY }: Scale): string[] {
  const bottom = PLOT.y + PLOT.height
  const right = PLOT.x + PLOT.width
  const grid = (from: string, to: string) => `<path d="M${from}L${to}" stroke="#e4e4e4"/>`
  return [
    ...marksX.all.map((mark) => {
      const at = round(x(mark))
      return (
        grid(`${at} ${PLOT.y}`, `${at} ${bottom}`) +
        label(at, bottom + 18, plain(mark), { anchor: 'middle' })
      )
    }),
    ...marksY.all.map((mark) => {
      const at = round(y(mark))
      return (
        grid(`${PLOT.x} ${at}`, `${right} ${at}`) +
        label(PLOT.x - 8, at + 4, plain(mark / 1e9), { anchor: 'end' })
      )
    }),
    label(PLOT.x + PLOT.width / 2, bottom + 42, 'operations per byte of memory', {
      anchor: 'middle',
      size: 13,
    }),
    `<g transform="rotate(-90 24 ${PLOT.y + PLOT.height / 2})">` +
      label(24, PLOT.y + PLOT.height / 2, 'billion operations a second', {
        anchor: 'middle',
        size: 13,
      }) +
      '</g>',
  ]
}

/** The slope of the memory and the roofs of the arithmetic; those in use are drawn darker. */
function drawRoofs(scale: Scale, read: Limit, roofs: readonly Roof[]): string[] {
  const { x, y, marksX, marksY } = scale
  const right = x(marksX.last)
  const highest = Math.max(...roofs.map(({ limit }) => limit.median))
  const lowest = marksY.first
  // The slope begins where it enters the picture, at the left or at the bottom.
  const from = Math.max(marksX.first, lowest / read.median)
  const slope =
    `<path d="M${round(x(from))} ${round(y(from * read.median))}` +
    `L${round(x(highest / read.median))} ${round(y(highest))}" stroke="#444" stroke-width="2"/>`
  const lines = roofs.map(({ limit, isUsed }) => {
    const level = round(y(limit.median))
    const colour = isUsed ? '#444' : '#aaa'
    return (
      `<path d="M${round(x(limit.median / read.median))} ${level}L${round(right)} ${level}" ` +
      `stroke="${colour}" stroke-width="${isUsed ? 2 : 1}"/>`
    )
  })
  const texts = roofLabels(roofs, scale).map(({ text, isUsed, box }) =>
    label(box.x + box.width, box.y + FONT - 1, text, {
      anchor: 'end',
      colour: isUsed ? '#222' : '#888',
    }),
  )
  // Along the upper end of the slope, where no kernel can be.
  const top = { x: round(x(highest / read.median)) - 8, y: round(y(highest)) - 2 }
  const angle = (Math.atan2(y(2) - y(1), x(2) - x(1)) * 180) / Math.PI
  const slopeLabel =
    `<g transform="rotate(${round(angle)} ${top.x} ${top.y})">` +
    label(top.x, top.y, `memory: ${plain(read.median / 1e9)} GB/s`, { anchor: 'end' }) +
    '</g>'
  return [slope, ...lines, ...texts, slopeLabel]
}

/** Texts at the right end of each roof, above it, moved up where the one below is too near. */
function roofLabels(
  roofs: readonly Roof[],
  { x, y, marksX }: Scale,
): { text: string; isUsed: boolean; box: Box }[] {
  const height = FONT + 2
  let free = Infinity
  return [...roofs]
    .sort((a, b) => a.limit.median - b.limit.median)
    .map(({ limit, isUsed }) => {
      const text = `${limit.name}: ${plain(limit.median / 1e9)} G/s`
      const width = LETTER * text.length
      const top = Math.min(y(limit.median) - height - 2, free)
      free = top - height
      return { text, isUsed, box: { x: x(marksX.last) - 4 - width, y: top, width, height } }
    })
}

function drawPoints(
  { x, y }: Scale,
  points: readonly Point[],
  labels: readonly { box: Box }[],
): string[] {
  const dots = points.map((point) => ({ ...point, x: x(point.intensity), y: y(point.rate) }))
  const taken: Box[] = [
    ...dots.map((dot) => ({ x: dot.x - 3, y: dot.y - 3, width: 6, height: 6 })),
    ...labels.map(({ box }) => box),
  ]
  return dots.map((dot, i) => {
    const { colour, label: name } = dot
    const number = String(i + 1)
    const box = freePlace(dot, LETTER * number.length + 3, taken)
    taken.push(box)
    const middle = { x: box.x + box.width / 2, y: box.y + box.height / 2 }
    return (
      `<path d="M${round(dot.x)} ${round(dot.y)}L${round(middle.x)} ${round(middle.y)}" ` +
      `stroke="${colour}" stroke-width="0.5"/>` +
      `<circle cx="${round(dot.x)}" cy="${round(dot.y)}" r="3" fill="${colour}">` +
      `<title>${escape(name)}</title></circle>` +
      label(middle.x, middle.y + 4, number, { anchor: 'middle', colour, halo: true })
    )
  })
}

/** The nearest place for a number beside its dot that covers neither a dot nor another number. */
function freePlace(dot: { x: number; y: number }, width: number, taken: readonly Box[]): Box {
  const height = FONT + 1
  for (let radius = 11; ; radius += 4) {
    for (let step = 0; step < 16; step++) {
      const angle = -Math.PI / 4 + (step * Math.PI) / 8
      const box = {
        x: dot.x + radius * Math.cos(angle) - width / 2,
        y: dot.y + radius * Math.sin(angle) - height / 2,
        width,
        height,
      }
      const isInside = box.x > PLOT.x && box.x + width < PLOT.x + PLOT.width
      if (radius > 400 || (isInside && !taken.some((other) => overlap(box, other)))) return box
    }
  }
}

function overlap(a: Box, b: Box): boolean {
  return a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height
}

/** Numbers, names and fractions of the limit. */
function drawLegend(points: readonly Point[]): string[] {
  return points.map(({ label: name, fraction, rate, colour }, i) => {
    const at = PLOT.y + 10 + i * LEGEND_LINE
    const figures = `${plain(rate / 1e9)} G/s, ${(100 * fraction).toFixed(0)} %`
    return (
      label(LEGEND_X + 16, at, String(i + 1), { anchor: 'end', colour }) +
      label(LEGEND_X + 26, at, name, {}) +
      label(LEGEND_X + 420, at, figures, { anchor: 'end' })
    )
  })
}

interface TextStyle {
  anchor?: 'middle' | 'end'
  size?: number
  colour?: string
  /** White around the letters, for those that stand on lines. */
  halo?: boolean
}

function label(x: number, y: number, text: string, style: TextStyle): string {
  const attributes = [
    `x="${round(x)}" y="${round(y)}"`,
    ...(style.anchor ? [`text-anchor="${style.anchor}"`] : []),
    ...(style.size ? [`font-size="${style.size}"`] : []),
    ...(style.colour ? [`fill="${style.colour}"`] : []),
    ...(style.halo ? ['stroke="#fff" stroke-width="3" paint-order="stroke"'] : []),
  ]
  return `<text ${attributes.join(' ')}>${escape(text)}</text>`
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}

function round(value: number): number {
  return Math.round(value * 10) / 10
}

/** A number with at most three digits that mean something, and a comma between thousands. */
function plain(value: number): string {
  return value.toLocaleString('en', { maximumSignificantDigits: 3 })
}
