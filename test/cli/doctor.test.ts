import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Diagnosis } from '../../lib/doctor/finding.js'
import { packageRoot } from '../../lib/package-root.js'
import { hasFfmpeg } from '../lib/processor/clips.js'

let folder: string
beforeAll(async () => (folder = await mkdtemp(join(tmpdir(), 'qwen2-vl-doctor-'))))
afterAll(() => rm(folder, { recursive: true }))

async function doctor(args: string[], variables: Record<string, string> = {}) {
  const cli = join(packageRoot, 'dist', 'cli.js')
  const env = { ...process.env, HF_HOME: join(folder, 'hub'), HF_TOKEN: '', ...variables }
  try {
    const { stdout } = await promisify(execFile)(process.execPath, [cli, 'doctor', ...args], {
      env,
    })
    return { stdout, code: 0 }
  } catch (error) {
    return error as { stdout: string; code: number }
  }
}

async function diagnosis(variables: Record<string, string>) {
  const { stdout, code } = await doctor(['--json'], variables)
  const report = JSON.parse(stdout) as Diagnosis
  const topics = Object.fromEntries(report.findings.map((finding) => [finding.topic, finding]))
  return { ...report, code, topics, stdout }
}

describe('qwen2-vl doctor', () => {
  it('says in plain lines that all is well', async () => {
    const { stdout, code } = await doctor([])
    expect(code).toBe(0)
    expect(stdout).not.toContain('\x1b')
    expect(stdout).toMatch(/^qwen2-vl \d+\.\d+\.\d+\n\n/)
    expect(stdout).toMatch(/^ok {6}platform {3}Node\.js \d+/m)
    expect(stdout).toMatch(/^ok {6}binary {5}\S+\.node: /m)
    expect(stdout).toMatch(
      /^ok {6}self-test {2}the bundled checkpoint .* answered rightly in \d+ ms$/m,
    )
    expect(stdout).toMatch(/\nModels can be loaded and asked\.\n$/)
  })

  it('has as data what the machine is and what was chosen', async () => {
    const { healthy, topics, code } = await diagnosis({ HF_TOKEN: 'hf_secret' })
    expect([healthy, code]).toEqual([true, 0])
    const facts = (topic: string) => topics[topic]!.facts
    expect(facts('binary')['origin']).toMatch(/source|prebuilt/)
    expect(facts('processor')).toMatchObject({
      requested: null,
      kernels: expect.any(String) as string,
    })
    expect(facts('threads')['threads']).toBe(facts('threads')['physicalCores'])
    expect(facts('memory')['availableBytes']).toBeGreaterThan(2 ** 20)
    expect(facts('self-test')['answer']).toBe('The text says "HELLO".')
    expect(topics['CUDA']!.summary).toMatch(/\w/)
    if (hasFfmpeg) expect(facts('ffmpeg')['path']).toMatch(/^\W*[/\\]?.*ffmpeg/)
  })

  it('shows that there is a token, never the token', async () => {
    const { topics, stdout } = await diagnosis({ HF_TOKEN: 'hf_secret' })
    expect(topics['cache']!.facts['hasToken']).toBe(true)
    expect(stdout).not.toContain('hf_secret')
  })

  it('says exactly why a binary does not load, and ends with code 1', async () => {
    await mkdir(join(folder, 'broken/build/Release'), { recursive: true })
    await writeFile(join(folder, 'broken/build/Release/qwen2vl.node'), 'no binary')
    const report = await diagnosis({ QWEN2_VL_PREBUILD: join(folder, 'broken') })
    expect([report.healthy, report.code]).toEqual([false, 1])
    const { status, summary, facts } = report.topics['binary']!
    expect(status).toBe('error')
    expect(summary).toMatch(/broken.*cannot be loaded here \(.+\): build one with "npm install/)
    expect(facts['origin']).toBe('named by the variable QWEN2_VL_PREBUILD')
    expect(report.topics['self-test']!.status).toBe('error')
    // What does not need it is looked at all the same.
    expect(report.topics['sharp']!.status).toBe('ok')
  })

  it('finds the one instruction set that was asked for, and refuses another', async () => {
    const first = await diagnosis({})
    const kernels = first.topics['processor']!.facts['kernels'] as string
    const again = await diagnosis({ QWEN2_VL_CPU: kernels })
    expect(again.topics['processor']!.summary).toContain(
      `${kernels} kernels, named by the variable`,
    )
    const none = await diagnosis({ QWEN2_VL_CPU: 'mmx' })
    expect([none.healthy, none.topics['self-test']!.status]).toEqual([false, 'error'])
    expect(none.topics['self-test']!.summary).toContain('mmx')
  })

  it('warns of a missing ffmpeg and of a cache that cannot be written, which some never need', async () => {
    await writeFile(join(folder, 'file'), '')
    const missing = { QWEN2_VL_FFMPEG: join(folder, 'none'), HF_HOME: join(folder, 'file') }
    const { healthy, code, topics } = await diagnosis(missing)
    expect([healthy, code]).toEqual([true, 0])
    expect(topics['ffmpeg']).toMatchObject({ status: 'warning' })
    expect(topics['ffmpeg']!.remedy).toMatch(/apt-get install ffmpeg/)
    expect(topics['cache']).toMatchObject({ status: 'warning', facts: { writable: false } })
    expect(topics['cache']!.summary).toMatch(/file is no folder/)
  })
})
