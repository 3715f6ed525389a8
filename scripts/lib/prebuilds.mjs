/** The folder prebuilds/: the names of its files, and manifest.json, which describes them. */
import { readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..')

const manifestFile = join(root, 'prebuilds', 'manifest.json')

/** What a release has. The first two are built on one machine, the others on their own. */
export const releaseTargets = [
  { platform: 'linux', arch: 'x64', libc: 'glibc' },
  { platform: 'linux', arch: 'arm64', libc: 'glibc' },
  { platform: 'linux', arch: 'x64', libc: 'musl' },
  { platform: 'darwin', arch: 'arm64', libc: '' },
  { platform: 'darwin', arch: 'x64', libc: '' },
  { platform: 'win32', arch: 'x64', libc: '' },
]

/** As node-gyp-build reads names: folder by platform, then tags between dots. */
export function binaryName({ platform, arch, libc }) {
  return `${platform}-${arch}/qwen2-vl.${libc ? `${libc}.` : ''}node`
}

/** `linux-x64` is glibc's; Alpine's own is `linux-x64-musl`. */
export function parseTarget(name) {
  const [platform, arch, libc = platform === 'linux' ? 'glibc' : ''] = name.split('-')
  if (platform && arch) return { platform, arch, libc }
  throw new Error(`'${name}' is no target: linux-x64, linux-arm64, linux-x64-musl, darwin-arm64 …`)
}

export function hostTarget() {
  const { platform, arch } = process
  if (platform !== 'linux') return { platform, arch, libc: '' }
  const isGlibc = 'glibcVersionRuntime' in process.report.getReport().header
  return { platform, arch, libc: isGlibc ? 'glibc' : 'musl' }
}

/** By path below prebuilds/: bytes, sha256, what it needs. */
export function readManifest() {
  try {
    return JSON.parse(readFileSync(manifestFile, 'utf8'))
  } catch (error) {
    if (error.code === 'ENOENT') return {}
    throw error
  }
}

export function writeManifest(manifest) {
  const sorted = Object.fromEntries(Object.entries(manifest).sort(([a], [b]) => (a < b ? -1 : 1)))
  writeFileSync(manifestFile, `${JSON.stringify(sorted, null, 2)}\n`)
}
