/**
 * llama.cpp's own programs, built for this processor:
 * `npx tsx bench/peers/llama-cpp.ts <folder of programs> <file.gguf> <threads> [mmproj.gguf]`.
 * Prints a line of JSON for each case; those of images only with mmproj.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { decodePrompt, decodeTokens, print } from './cases.js'

const [folder, model, threads = '2', mmproj] = process.argv.slice(2)
if (folder === undefined || model === undefined) {
  throw new Error('usage: llama-cpp.ts <folder of programs> <file.gguf> <threads> [mmproj.gguf]')
}

for (const tokens of [128, 512]) {
  print({ case: `prefill ${tokens}`, value: bench('-p', String(tokens), '-n', '0') })
}
print({
  case: 'decode',
  value: bench('-p', '0', '-n', String(decodeTokens), '-d', String(decodePrompt)),
})
if (mmproj !== undefined) {
  await image(448, 448, mmproj)
  await image(1024, 768, mmproj)
}

/** Tokens per second of one llama-bench test. */
function bench(...test: string[]): number {
  const args = ['-m', model!, '-t', threads, '-r', '1', '-o', 'json', ...test]
  const [result] = JSON.parse(run('llama-bench', args).stdout) as { avg_ts: number }[]
  if (!result) throw new Error('llama-bench printed no result')
  return result.avg_ts
}

async function image(width: number, height: number, projector: string): Promise<void> {
  const file = join(mkdtempSync(join(tmpdir(), 'llama-cpp-')), 'picture.png')
  const data = Uint8Array.from({ length: width * height * 3 }, (_, i) => (i * 7 + (i >> 9)) & 255)
  await sharp(data, { raw: { width, height, channels: 3 } })
    .png()
    .toFile(file)
  const args = ['-m', model!, '--mmproj', projector, '--image', file, '-t', threads, '-n', '1']
  const { stderr, stdout } = run('llama-mtmd-cli', [
    ...args,
    '-p',
    'Describe.',
    '-c',
    '4096',
    '--chat-template',
    'chatml',
  ])
  const [, ms] = /encod\w+ (?:done )?in (\d+) ms/.exec(stdout + stderr) ?? []
  if (ms === undefined)
    throw new Error(`llama-mtmd-cli did not say how long it took:\n${stderr.slice(-2000)}`)
  print({ case: `image ${width}×${height}`, value: Number(ms) / 1000 })
}

function run(program: string, args: string[]): { stdout: string; stderr: string } {
  const { stdout, stderr, status, error } = spawnSync(join(folder!, program), args, {
    encoding: 'utf8',
  })
  if (error) throw error
  if (status !== 0) throw new Error(`${program} ended with ${status}:\n${stderr.slice(-2000)}`)
  return { stdout, stderr }
}
