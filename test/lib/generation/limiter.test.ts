import { expect, it } from 'vitest'
import { Limiter } from '../../../lib/generation/limiter.js'

it('runs at most so many at once, in order, and goes on after a failure', async () => {
  const limiter = new Limiter(2)
  const begun: number[] = []
  let underWay = 0
  let most = 0
  const settled = await Promise.allSettled(
    [0, 1, 2, 3, 4, 5].map((i) =>
      limiter.run(async () => {
        begun.push(i)
        most = Math.max(most, ++underWay)
        await new Promise((resolve) => setImmediate(resolve))
        --underWay
        if (i === 1) throw new Error('one')
        return i
      }),
    ),
  )
  expect(begun).toEqual([0, 1, 2, 3, 4, 5])
  expect(most).toBe(2)
  expect(settled.map(({ status }) => status === 'fulfilled')).toEqual([
    true,
    false,
    true,
    true,
    true,
    true,
  ])
})
