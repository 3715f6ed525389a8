/** The folder prebuilds/: which binaries a release has, and the names of its files. */
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..')

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

/** The file beside a binary that says its size, its hash and what it needs. */
export function recordOf(binary) {
  return binary.replace(/\.node$/, '.json')
}
