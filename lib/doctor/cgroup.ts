/** The limits that a container or a service manager sets, as Linux keeps them in control groups. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

/** The least of the process's group and the groups around it; undefined where there is none. */
export interface CgroupLimits {
  /** Processors' worth of time. */
  cpus?: number
  memoryBytes?: number
}

/** What is more than this is the kernel's way to say that there is no limit. */
const NO_LIMIT = 2 ** 60

/** @param root of the file system, for tests. */
export async function cgroupLimits(root = '/'): Promise<CgroupLimits> {
  const groups = await readFile(join(root, 'proc/self/cgroup'), 'utf8').catch(() => '') // not Linux
  const cpus: number[] = []
  const memory: number[] = []
  for (const line of groups.split('\n')) {
    const [, controllers, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? []
    if (controllers === undefined || path === undefined) continue
    const names = controllers.split(',')
    for (const folder of foldersUpwards(path)) {
      const file = async (hierarchy: string, name: string) =>
        readFile(join(root, 'sys/fs/cgroup', hierarchy, folder, name), 'utf8').catch(() => '') // not set here
      if (controllers === '') {
        cpus.push(quota(...split(await file('', 'cpu.max'))))
        memory.push(amount(await file('', 'memory.max')))
      }
      if (names.includes('cpu')) {
        const period = await file(controllers, 'cpu.cfs_period_us')
        cpus.push(quota(await file(controllers, 'cpu.cfs_quota_us'), period))
      }
      if (names.includes('memory')) {
        memory.push(amount(await file(controllers, 'memory.limit_in_bytes')))
      }
    }
  }
  const least = { cpus: Math.min(...cpus), memoryBytes: Math.min(...memory) }
  return {
    ...(Number.isFinite(least.cpus) && { cpus: least.cpus }),
    ...(Number.isFinite(least.memoryBytes) && { memoryBytes: least.memoryBytes }),
  }
}

/** `/a/b`, `/a` and ``. */
function foldersUpwards(path: string): string[] {
  const parts = path.split('/').filter((part) => part !== '')
  return [...parts.keys(), parts.length].map((n) => parts.slice(0, n).join('/')).reverse()
}

function split(text: string): [quota: string, period: string] {
  const [quota = '', period = ''] = text.trim().split(/\s+/)
  return [quota, period]
}

function quota(quota: string, period: string): number {
  return amount(quota) / (Number(period) || 1e5)
}

/** Infinity for `max`, -1, nothing and numbers that mean none. */
function amount(text: string): number {
  const value = text.trim() === '' ? Infinity : Number(text)
  return value > 0 && value < NO_LIMIT ? value : Infinity
}
