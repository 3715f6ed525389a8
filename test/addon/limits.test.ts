import { expect, it } from 'vitest'
import { nativeBinding } from '../../lib/native.js'

const native = nativeBinding()

it('measures every limit of this machine', async () => {
  const names = native.limitNames()
  expect(names[0]).toBe('read')
  expect(names.some((name) => name.startsWith('fp32 '))).toBe(true)
  for (const name of names) {
    const rate = await native.measureLimit(name, 2, 0)
    expect(rate, name).toBeGreaterThan(0)
    expect(rate, name).toBeLessThan(Infinity)
  }
})

it('rejects a limit that this machine has not', async () => {
  await expect(native.measureLimit('warp', 0, 0)).rejects.toMatchObject({
    code: 'ERR_INVALID_ARGUMENT',
    message: expect.stringMatching(/^'warp' is no limit of this machine; it has 'read'/) as string,
  })
})

it('refuses what it cannot use', () => {
  expect(() => native.measureLimit('read', -1, 0)).toThrow(/threads/)
  expect(() => native.measureLimit('read', 1, NaN)).toThrow(/seconds/)
})
