import { describe, expect, it } from 'vitest'
import { collectProbe } from '../../../lib/doctor/probe.js'

const says = (text: string) => `process.stdout.write(${JSON.stringify(text)});`
const sharp = { sharp: { value: { vips: '8' } } }
const line = JSON.stringify(sharp) + '\n'

describe('collectProbe', () => {
  it('joins the parts', async () => {
    expect(await collectProbe(['-e', says(line + '{"selfTest":{"error":"no"}}\n')])).toEqual({
      ...sharp,
      selfTest: { error: 'no' },
    })
  })

  it.skipIf(process.platform === 'win32')(
    'keeps what was said before the process was ended by a signal',
    async () => {
      const code =
        says(`${line}{"selfTe`) + "process.kill(process.pid, 'SIGILL'); setTimeout(() => {}, 1e6)"
      expect(await collectProbe(['-e', code])).toEqual({ ...sharp, ended: 'was ended by SIGILL' })
    },
  )

  it('says what a process that failed printed', async () => {
    const { ended } = await collectProbe(['-e', "throw new Error('no such thing')"])
    expect(ended).toMatch(/^ended with code 1: [\s\S]*no such thing/)
  })

  it('does not wait for ever', async () => {
    const code = `${says(line)}setInterval(() => {}, 1000)`
    expect(await collectProbe(['-e', code], 2000)).toEqual({
      ...sharp,
      ended: 'was not done after 2 s',
    })
  })
})
