import { execFile } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { packageRoot } from '../../lib/package-root.js'

/** Runs the n-th block of code of docs/inputs.md, and gives what it prints. */
async function run(n: number): Promise<string> {
  const text = await readFile(join(packageRoot, 'docs', 'inputs.md'), 'utf8')
  const code = [...text.matchAll(/```ts\n([\s\S]*?)```/g)][n]?.[1]
  if (code === undefined) throw new Error(`docs/inputs.md has no block ${n}`)
  const folder = join(packageRoot, 'build', 'guides')
  await mkdir(folder, { recursive: true })
  const file = join(folder, `inputs-${n}.ts`)
  await writeFile(file, code.replace("'qwen2-vl'", "'../../lib/index.js'"))
  const options = { cwd: packageRoot }
  return (await promisify(execFile)(process.execPath, ['--import', 'tsx', file], options)).stdout
}

test('every kind of image gives the same answer', async () => {
  expect(await run(0)).toBe('The text says "HELLO".\n'.repeat(6))
})

test('a model can be loaded with rules', async () => expect(await run(1)).toBe(''))
