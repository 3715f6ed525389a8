import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { cgroupLimits } from '../../../lib/doctor/cgroup.js'

let root: string
beforeEach(async () => (root = await mkdtemp(join(tmpdir(), 'qwen2-vl-cgroup-'))))
afterEach(() => rm(root, { recursive: true }))

async function system(files: Record<string, string>): Promise<void> {
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, name)), { recursive: true })
    await writeFile(join(root, name), text)
  }
}

describe('cgroupLimits', () => {
  it('takes the least of a group and those around it, of version 2', async () => {
    await system({
      'proc/self/cgroup': '0::/kube/pod\n',
      'sys/fs/cgroup/kube/pod/cpu.max': '150000 100000\n',
      'sys/fs/cgroup/kube/pod/memory.max': 'max\n',
      'sys/fs/cgroup/kube/cpu.max': '400000 100000\n',
      'sys/fs/cgroup/kube/memory.max': `${2 ** 31}\n`,
    })
    expect(await cgroupLimits(root)).toEqual({ cpus: 1.5, memoryBytes: 2 ** 31 })
  })

  it('sees the root of a container, whose group is named /', async () => {
    await system({
      'proc/self/cgroup': '0::/\n',
      'sys/fs/cgroup/cpu.max': '50000 100000',
      'sys/fs/cgroup/memory.max': '1073741824',
    })
    expect(await cgroupLimits(root)).toEqual({ cpus: 0.5, memoryBytes: 2 ** 30 })
  })

  it('reads version 1, whose numbers for no limit are -1 and nearly 2^63', async () => {
    await system({
      'proc/self/cgroup': '4:cpu,cpuacct:/a\n3:memory:/a\n',
      'sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us': '-1\n',
      'sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us': '300000\n',
      'sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us': '100000\n',
      'sys/fs/cgroup/memory/a/memory.limit_in_bytes': '9223372036854771712\n',
    })
    expect(await cgroupLimits(root)).toEqual({ cpus: 3 })
  })

  it('finds nothing where there are no groups', async () => {
    expect(await cgroupLimits(root)).toEqual({})
  })
})
