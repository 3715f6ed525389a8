import { describe, expect, it } from 'vitest'
import { drawRoofline } from '../../../lib/bench/roofline.js'
import { sharp } from '../../../lib/processor/sharp.js'
import { kernelRow, reportOf } from './report-of.js'

/** Numbers beside the dots of the picture: their places and texts. */
function numbers(svg: string): { x: number; y: number; text: string }[] {
  const pattern =
    /<text x="([\d.]+)" y="([\d.]+)" text-anchor="middle" fill="[^"]+" stroke[^>]*>(\d+)</g
  return [...svg.matchAll(pattern)].map(([, x, y, text]) => ({
    ...{ x: Number(x), y: Number(y), text: text ?? '' },
  }))
}

describe('drawRoofline()', () => {
  it('is a picture that a reader of SVG can draw', async () => {
    const svg = drawRoofline(reportOf([kernelRow('GEMV a', 1), kernelRow('GEMM b', 500)]))
    const { info } = await sharp(Buffer.from(svg)).raw().toBuffer({ resolveWithObject: true })
    expect(info.width).toBeGreaterThan(1000)
    expect(info.height).toBeGreaterThan(600)
  })

  it('places a kernel by its operations per byte and its speed', () => {
    const svg = drawRoofline(reportOf([kernelRow('GEMV a', 1), kernelRow('GEMM b', 100)]))
    const dots = [...svg.matchAll(/<circle cx="([\d.]+)" cy="([\d.]+)"[^>]*><title>([^<]+)/g)]
    // The axes run from 0.5 to 200 and from 10 to 1000 billion: 720 × 520 from (80, 60).
    const x = (value: number) => 80 + (720 * Math.log(value / 0.5)) / Math.log(400)
    const y = (value: number) => 580 - (520 * Math.log(value / 10)) / Math.log(100)
    expect(dots.map(([, cx, cy, name]) => [name, Number(cx), Number(cy)])).toEqual([
      ['GEMV a', expect.closeTo(x(1), 0), expect.closeTo(y(25), 0)],
      ['GEMM b', expect.closeTo(x(100), 0), expect.closeTo(y(125), 0)],
    ])
  })

  it('numbers the kernels, and no number covers another', () => {
    // All in one place, as the products of one shape in several formats are.
    const rows = Array.from({ length: 40 }, (_, i) => kernelRow(`GEMM ${i}`, 100 + (i % 3)))
    const svg = drawRoofline(reportOf(rows))
    const places = numbers(svg)
    expect(places.map(({ text }) => Number(text))).toEqual(rows.map((_, i) => i + 1))
    for (const [i, a] of places.entries()) {
      for (const b of places.slice(i + 1)) {
        const isApart = Math.abs(a.x - b.x) >= 8 || Math.abs(a.y - b.y) >= 11
        expect(isApart, `${a.text} and ${b.text}`).toBe(true)
      }
    }
  })

  it('names every kernel with its share of the limit, and every limit', () => {
    const svg = drawRoofline(reportOf([kernelRow('GEMM <x>', 500)]))
    expect(svg).toContain('>GEMM &lt;x&gt;</text>')
    expect(svg).toContain('>125 G/s, 50 %</text>')
    expect(svg).toContain('>memory: 50 GB/s</text>')
    expect(svg).toContain('>fp32 avx512: 500 G/s</text>')
    expect(svg).toContain('on Abacus &lt;9&gt;, 2 threads')
  })

  it('leaves out what computes nothing and what is no kernel alone', () => {
    const svg = drawRoofline(
      reportOf([
        kernelRow('rms_norm', 0),
        { section: 'model', name: 'load', unit: 's', best: 1, median: 1, runs: 1 },
      ]),
    )
    expect(svg).not.toMatch(/rms_norm|load|<circle/)
  })
})
