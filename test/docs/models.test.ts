import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { packageRoot } from '../../lib/package-root.js'
import { FakeHub } from '../lib/hub/fake-hub.js'

// The blocks of docs/models.md run as they are, with a hub that has the bundled checkpoint under their name.
test('the code of docs/models.md prints what it says', async () => {
  const hub = await FakeHub.start()
  hub.id = 'Qwen/Qwen2-VL-2B-Instruct'
  const home = await mkdtemp(join(tmpdir(), 'qwen2-vl-docs-'))
  try {
    const text = await readFile(join(packageRoot, 'docs', 'models.md'), 'utf8')
    const blocks = [...text.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code]) => code!)
    expect(blocks.length).toBe(4)
    const folder = join(packageRoot, 'build', 'guides')
    await mkdir(folder, { recursive: true })
    for (const [i, code] of blocks.entries()) {
      const file = join(folder, `models-${i}.ts`)
      await writeFile(file, code.replace("'qwen2-vl'", "'../../lib/index.js'"))
      const env = { ...process.env, HF_HOME: join(home, String(i)), HF_ENDPOINT: hub.endpoint }
      const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', file], {
        cwd: packageRoot,
        env,
      })
      const said = [...code.matchAll(/console\.log\(.*\) \/\/ (.*)$/gm)].map(([, line]) => line)
      const printed = stdout.split('\n')
      expect(said.length).toBeGreaterThan(0)
      for (const line of said) expect(printed).toContain(line)
    }
  } finally {
    await hub.close()
    await rm(home, { recursive: true, force: true })
  }
})
