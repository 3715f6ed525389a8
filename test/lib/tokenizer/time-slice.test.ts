import { describe, expect, it } from 'vitest'
import { runAtOnce, runInSlices } from '../../../lib/tokenizer/time-slice.js'

function* busy(steps: number, msPerStep: number): Generator<void, string, void> {
  for (let i = 0; i < steps; i++) {
    const end = performance.now() + msPerStep
    while (performance.now() < end);
    yield
  }
  return 'done'
}

describe('work in slices', () => {
  it('lets the event loop turn between slices', async () => {
    let turns = 0
    let running = true
    const turn = () => {
      turns++
      if (running) setImmediate(turn)
    }
    setImmediate(turn)
    expect(await runInSlices(busy(60, 1))).toBe('done')
    running = false
    // 60 ms in slices of 4 ms; other work on the machine only makes the slices fewer steps long.
    expect(turns).toBeGreaterThanOrEqual(10)
  })

  it('passes an error on', async () => {
    function* failing(): Generator<void, never, void> {
      yield
      throw new RangeError('wrong')
    }
    await expect(runInSlices(failing())).rejects.toThrow(RangeError)
    expect(() => runAtOnce(failing())).toThrow(RangeError)
  })

  it('gives the same result at once', () => {
    expect(runAtOnce(busy(3, 0))).toBe('done')
  })
})
