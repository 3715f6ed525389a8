/** What `npm pack` puts into the tarball: what runs, what a build from source takes, and nothing else. */
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { beforeAll, describe, expect, test } from 'vitest'
import { packageRoot } from '../../lib/package-root.js'

interface Packed {
  size: number
  unpackedSize: number
  files: { path: string; size: number }[]
}

const allowed = [
  /^(package\.json|README\.md|CHANGELOG\.md|LICENSE|THIRD_PARTY_NOTICES\.md)$/,
  // What runs.
  /^dist\/[\w-]+\.(js|cjs)(\.map)?$/,
  /^dist\/[\w-]+\.d\.(ts|cts)$/,
  /^prebuilds\/(linux|darwin|win32)-(x64|arm64)\/qwen2-vl\.(glibc\.|musl\.)?(node|json)$/,
  // The bundled checkpoint, with the pictures that README and self-test ask about.
  /^models\/qwen2-vl-tiny\/[\w-]+\.(json|safetensors|txt|md)$/,
  /^models\/qwen2-vl-tiny\/(images|videos)\/[\w/-]+\.(png|jpg|mp4)$/,
  // What a build from source takes.
  /^(CMakeLists\.txt|binding\.gyp|scripts\/build-native\.mjs)$/,
  /^cmake\/[\w/-]+\.(cmake|map|cpp)$/,
  /^(native|kernels)\/[\w/-]+\.(h|cpp|inc|cu|cuh)$/,
]

const required = [
  ...['README.md', 'CHANGELOG.md', 'LICENSE', 'THIRD_PARTY_NOTICES.md', 'CMakeLists.txt'],
  ...['dist/index.js', 'dist/index.cjs', 'dist/index.d.ts', 'dist/index.d.cts', 'dist/cli.js'],
  ...['scripts/build-native.mjs', 'models/qwen2-vl-tiny/model.safetensors'],
]

const megabyte = 1e6
let packed: Packed
let paths: string[]

beforeAll(async () => {
  const { stdout } = await promisify(execFile)('npm', ['pack', '--dry-run', '--json'], {
    cwd: packageRoot,
    maxBuffer: 10 * megabyte,
    shell: process.platform === 'win32',
  })
  packed = (JSON.parse(stdout) as Packed[])[0]!
  paths = packed.files.map(({ path }) => path)
})

describe('the tarball', () => {
  test('holds nothing that no user needs', () => {
    expect(paths.filter((path) => !allowed.some((pattern) => pattern.test(path)))).toEqual([])
    const ofNoUse = /(^|\/)(test|bench|fuzz|examples)\//
    expect(paths.filter((path) => ofNoUse.test(path))).toEqual([])
  })

  test('holds what is needed', () => {
    expect(required.filter((path) => !paths.includes(path))).toEqual([])
  })

  test('has a size that a service can take', () => {
    const bytesIn = (folder: string) =>
      packed.files
        .filter(({ path }) => path.startsWith(folder))
        .reduce((sum, { size }) => sum + size, 0)
    expect(bytesIn('models/')).toBeLessThan(12 * megabyte)
    expect(bytesIn('dist/')).toBeLessThan(6 * megabyte)
    expect(bytesIn('native/') + bytesIn('kernels/')).toBeLessThan(3 * megabyte)
    // Six platforms, and beyond 30 MB a package for each would serve better.
    expect(bytesIn('prebuilds/')).toBeLessThan(30 * megabyte)
    expect(packed.size).toBeLessThan(30 * megabyte)
  })

  test('has maps that carry their sources', () => {
    const maps = paths.filter((path) => path.endsWith('.map') && path.startsWith('dist/'))
    expect(maps.length).toBeGreaterThanOrEqual(3)
    for (const path of maps) {
      const map = JSON.parse(readFileSync(join(packageRoot, path), 'utf8')) as {
        sources: string[]
        sourcesContent: (string | null)[]
      }
      expect(map.sourcesContent).toHaveLength(map.sources.length)
      expect(map.sourcesContent.every((text) => text !== null && text !== '')).toBe(true)
    }
  })
})

describe('package.json', () => {
  const manifest = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as {
    scripts: Record<string, string>
    gypfile: boolean
    sideEffects: boolean
  }

  test('runs nothing when the package is installed', () => {
    for (const name of ['preinstall', 'install', 'postinstall', 'prepare', 'prebuild']) {
      expect(manifest.scripts).not.toHaveProperty(name)
    }
    // With binding.gyp beside it npm would otherwise compile at every installation.
    expect(manifest.gypfile).toBe(false)
  })
})
