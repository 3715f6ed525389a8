/** Boxes, quads, points and their labels as an SVG drawing. */
import type { PictureSize, Position } from './geometry.js'

/** What is drawn: the pixels of an item, whatever else it carries. */
export type Shape =
  | { kind: 'box'; label: string; x1: number; y1: number; x2: number; y2: number }
  | { kind: 'quad'; label: string; points: readonly Position[] }
  | { kind: 'point'; label: string; x: number; y: number }

/** How it is drawn. */
export interface DrawingStyle {
  /** As `#rrggbb`; each label has its own, in order of appearance, from the first again after the last. */
  colors: readonly string[]
  lineWidth: number
  fontSize: number
  labels: boolean
}

/** Ten colours that are far apart. */
const DEFAULT_COLORS: readonly string[] = [
  ...['#e6194b', '#0082c8', '#3cb44b', '#f58231', '#911eb4'],
  ...['#ffe119', '#46f0f0', '#f032e6', '#a9d420', '#800000'],
]

/** A style that fits a picture of this size. */
export function styleFor({ width, height }: PictureSize): DrawingStyle {
  const side = Math.max(width, height)
  return {
    colors: DEFAULT_COLORS,
    lineWidth: Math.max(2, Math.round(side / 320)),
    fontSize: Math.max(11, Math.round(side / 45)),
    labels: true,
  }
}

/** The drawing, as large as the picture and transparent where there is nothing. */
export function toSvg(
  { width, height }: PictureSize,
  shapes: readonly Shape[],
  style: DrawingStyle,
): string {
  const labels = [...new Set(shapes.map(({ label }) => label))]
  const colorOf = (shape: Shape) =>
    style.colors[labels.indexOf(shape.label) % style.colors.length] ?? '#000000'
  // Labels last, so that no line crosses them.
  const parts = [
    ...shapes.map((shape) => outline(shape, colorOf(shape), style.lineWidth)),
    ...(style.labels
      ? shapes.map((shape) => caption(shape, colorOf(shape), style, { width, height }))
      : []),
  ]
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}">` +
    `${parts.join('')}</svg>`
  )
}

function outline(shape: Shape, color: string, lineWidth: number): string {
  if (shape.kind === 'point') {
    const { x, y } = shape
    const radius = 2 * lineWidth
    return `<circle cx="${x}" cy="${y}" r="${radius}" fill="${color}" stroke="#ffffff" stroke-width="${lineWidth / 2}"/>`
  }
  // A polygon shows its line even where it has no area; a rect does not.
  const points = cornersOf(shape)
    .map(({ x, y }) => `${x},${y}`)
    .join(' ')
  return (
    `<polygon points="${points}" fill="none" stroke="${color}" stroke-width="${lineWidth}" ` +
    'stroke-linejoin="miter" shape-rendering="crispEdges"/>'
  )
}

/** The label on a ground of its colour: above the shape, else below it, else inside at its top. */
function caption(
  shape: Shape,
  color: string,
  { fontSize, lineWidth }: DrawingStyle,
  size: PictureSize,
): string {
  const text = shorten(shape.label.replace(/\s+/g, ' ').trim())
  if (text === '') return ''
  const padding = fontSize / 4
  const width = widthOf(text) * fontSize + 2 * padding
  const height = 1.4 * fontSize
  const corners = cornersOf(shape)
  const left = Math.min(...corners.map(({ x }) => x)) - lineWidth / 2
  const top = Math.min(...corners.map(({ y }) => y)) - lineWidth / 2
  const bottom = Math.max(...corners.map(({ y }) => y)) + lineWidth / 2
  const x = Math.max(0, Math.min(left, size.width - width))
  const inside = Math.max(0, Math.min(top, size.height - height))
  const y = top >= height ? top - height : bottom + height <= size.height ? bottom : inside
  return (
    `<rect x="${x}" y="${y}" width="${width}" height="${height}" fill="${color}"/>` +
    `<text x="${x + padding}" y="${y + 1.05 * fontSize}" font-family="sans-serif" ` +
    `font-size="${fontSize}" fill="${isLight(color) ? '#000000' : '#ffffff'}">${escapeXml(text)}</text>`
  )
}

function cornersOf(shape: Shape): readonly Position[] {
  switch (shape.kind) {
    case 'box': {
      const { x1, y1, x2, y2 } = shape
      return [
        { x: x1, y: y1 },
        { x: x2, y: y1 },
        { x: x2, y: y2 },
        { x: x1, y: y2 },
      ]
    }
    case 'quad':
      return shape.points
    case 'point':
      return [{ x: shape.x, y: shape.y }]
  }
}

const maxLabel = 60

function shorten(text: string): string {
  const characters = Array.from(text)
  return characters.length <= maxLabel ? text : `${characters.slice(0, maxLabel - 1).join('')}…`
}

/** About so many times the font's size; the renderer's font is not known. */
function widthOf(text: string): number {
  return Array.from(text).reduce((sum, c) => sum + ((c.codePointAt(0) ?? 0) < 0x1100 ? 0.6 : 1), 0)
}

function isLight(color: string): boolean {
  const value = Number.parseInt(color.slice(1), 16)
  const [red, green, blue] = [value >> 16, (value >> 8) & 255, value & 255]
  return 0.299 * red + 0.587 * green + 0.114 * blue > 150
}

const entities: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&apos;',
}

/** Text for XML 1.0: markup escaped, and what no XML may contain replaced. */
export function escapeXml(text: string): string {
  return text
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]|\p{Surrogate}/gu, '\ufffd')
    .replace(/[&<>"']/g, (character) => entities[character] ?? '')
}
