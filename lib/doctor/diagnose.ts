/** Looks at everything that the package needs, and says what is there, what is missing and what to do about it. */
import { readFile } from 'node:fs/promises'
import { arch, availableParallelism, cpus, platform, release, totalmem } from 'node:os'
import { join, relative } from 'node:path'
import { bytesText } from '../bytes-text.js'
import { findBinary, type NativeCudaInfo, type NativeLibraryInfo } from '../native.js'
import { packageRoot } from '../package-root.js'
import { cgroupLimits, type CgroupLimits } from './cgroup.js'
import { cacheFinding } from './cache.js'
import type { Diagnosis, Finding } from './finding.js'
import { ffmpegFinding } from './ffmpeg.js'
import { collectProbe, type Outcome, type Probe } from './probe.js'

/** The oldest Node.js that `engines` of package.json allows. */
const OLDEST_NODE = [20, 9]

/**
 * Looks at everything.
 *
 * @param probeArgs the arguments of Node.js that run `runProbe()` in a process of its own.
 */
export async function diagnose(probeArgs: readonly string[]): Promise<Diagnosis> {
  const manifest = await readFile(join(packageRoot, 'package.json'), 'utf8')
  const { version } = JSON.parse(manifest) as { version: string }
  const [probe, limits, ffmpeg, cache] = await Promise.all([
    collectProbe(probeArgs),
    cgroupLimits(),
    ffmpegFinding(),
    cacheFinding(),
  ])
  const findings = [
    platformFinding(),
    binaryFinding(probe),
    processorFinding(probe),
    threadsFinding(probe, limits),
    memoryFinding(probe, limits),
    cudaFinding(probe),
    sharpFinding(probe),
    ffmpeg,
    cache,
    selfTestFinding(probe),
  ]
  const healthy = findings.every(({ status }) => status !== 'error')
  return { healthy, version, findings }
}

function platformFinding(): Finding {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  const [oldestMajor = 0, oldestMinor = 0] = OLDEST_NODE
  const isOld = major < oldestMajor || (major === oldestMajor && minor < oldestMinor)
  const libc = libcName()
  return {
    topic: 'platform',
    status: isOld ? 'error' : 'ok',
    summary: `Node.js ${process.versions.node} on ${platform()}-${arch()}, ${[release(), libc].filter(Boolean).join(', ')}`,
    ...(isOld && { remedy: `Install Node.js ${OLDEST_NODE.join('.')} or newer.` }),
    facts: {
      node: process.versions.node,
      platform: platform(),
      arch: arch(),
      release: release(),
      libc: libc ?? null,
    },
  }
}

/** Linux has several, and binaries are for one of them. */
function libcName(): string | undefined {
  if (platform() !== 'linux') return undefined
  Object.assign(process.report, { excludeNetwork: true }) // else it asks for the names of all peers
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } }
  return header.glibcVersionRuntime === undefined ? 'musl' : `glibc ${header.glibcVersionRuntime}`
}

function binaryFinding({ binary, ended }: Probe): Finding {
  const file = findBinary()
  const origin = file === undefined ? undefined : originOf(file)
  const facts = { file: file ?? null, origin: origin ?? null }
  if (binary && 'value' in binary) {
    return { topic: 'binary', status: 'ok', summary: `${file}: ${origin}`, facts }
  }
  return {
    topic: 'binary',
    status: 'error',
    summary:
      binary?.error ??
      `${file ?? packageRoot} cannot be tried: the process that did ${ended ?? 'said nothing'}.`,
    remedy: binaryRemedy(binary?.error ?? ended ?? ''),
    facts,
  }
}

/** Why this file: node-gyp-build looks into these places in turn. */
function originOf(file: string): string {
  const inPackage = relative(packageRoot, file).replaceAll('\\', '/')
  if (process.env['QWEN2_VL_PREBUILD'] && inPackage.startsWith('..')) {
    return 'named by the variable QWEN2_VL_PREBUILD'
  }
  if (/^build\//.test(inPackage)) {
    return 'built from source on this machine, which goes before prebuilt binaries'
  }
  if (/^prebuilds\//.test(inPackage)) return 'prebuilt, and nothing was built from source here'
  return 'beside the Node.js executable'
}

function binaryRemedy(error: string): string {
  if (/GLIBC(XX)?_\d/.test(error)) {
    return 'The system is older than the binary. Build it here, as the message says, or use a newer distribution.'
  }
  if (/ld-linux|ld-musl/.test(error)) {
    return 'The binary is for another C library (glibc or musl). Build it here, as the message says, or use an image such as node:22-slim.'
  }
  if (/invalid ELF header|wrong architecture|not a valid Win32/.test(error)) {
    return 'The binary is for another system: run npm install on this machine, and do not copy node_modules between systems.'
  }
  if (/SIGILL|SIGSEGV|SIGBUS/.test(error)) {
    return 'The binary does not suit this processor. QWEN2_VL_CPU=sse42 takes older instructions; please report the processor.'
  }
  return 'Build it here, as the message says; docs/deployment.md has what that needs.'
}

function processorFinding({ binary, selfTest }: Probe): Finding {
  const cpu = valueOf(binary)?.cpu
  const taken = valueOf(selfTest)?.device.instructionSet
  const named = process.env['QWEN2_VL_CPU']
  const name = cpu?.name ?? cpus()[0]?.model ?? 'unknown'
  const why = named ? 'named by the variable QWEN2_VL_CPU' : 'the fastest that it runs'
  return {
    topic: 'processor',
    status: 'ok',
    summary: taken === undefined ? name : `${name}; ${taken} kernels, ${why}`,
    facts: {
      name,
      features: cpu?.instructionSets ?? null,
      kernels: taken ?? null,
      requested: named ?? null,
    },
  }
}

function threadsFinding({ binary, selfTest }: Probe, limits: CgroupLimits): Finding {
  const physicalCores = valueOf(binary)?.cpu.physicalCores
  const threads = valueOf(selfTest)?.device.threads
  const [all, allowed] = [cpus().length, availableParallelism()]
  const quota = limits.cpus === undefined ? '' : `, a quota of ${limits.cpus} from its cgroup`
  const cores = physicalCores === undefined ? '' : `, on ${physicalCores} physical cores`
  const chosen = threads === undefined ? '' : `${threads} for a model: `
  const isTight = limits.cpus !== undefined && limits.cpus < 1
  return {
    topic: 'threads',
    status: isTight ? 'warning' : 'ok',
    summary: `${chosen}the process may use ${allowed} of ${all} processors${cores}${quota}`,
    ...(isTight && { remedy: 'Give the container a whole processor at least.' }),
    facts: {
      processors: all,
      allowed,
      cgroupCpus: limits.cpus ?? null,
      physicalCores: physicalCores ?? null,
      threads: threads ?? null,
    },
  }
}

/** What the 2B checkpoint takes with 4-bit weights, and something for the cache: below it, no published one fits. */
const LEAST_MEMORY = 2 * 2 ** 30

function memoryFinding({ binary }: Probe, limits: CgroupLimits): Finding {
  const total = totalmem()
  const native = valueOf(binary)?.cpu.availableMemoryBytes
  const available = native ?? process.availableMemory()
  const limit =
    limits.memoryBytes !== undefined && limits.memoryBytes < total ? limits.memoryBytes : undefined
  const isLittle = available < LEAST_MEMORY
  return {
    topic: 'memory',
    status: isLittle ? 'warning' : 'ok',
    summary:
      `${bytesText(available)} to be had of ${bytesText(total)}` +
      (limit === undefined ? '' : `, a limit of ${bytesText(limit)} from its cgroup`),
    ...(isLittle && {
      remedy: `Published checkpoints need 2 GiB at least, and 5.5 GiB for the 2B model as it is stored.`,
    }),
    facts: { totalBytes: total, availableBytes: available, cgroupBytes: limit ?? null },
  }
}

/** Only a device that is there and cannot be used is worth a warning. */
function cudaFinding({ binary, selfTest }: Probe): Finding {
  const topic = 'CUDA'
  const cuda = valueOf(binary)?.cuda
  if (!cuda) {
    return { topic, status: 'unused', summary: 'not looked at: no binary was loaded', facts: {} }
  }
  const { built, driver, cublasLt, devices, usable, reason } = cuda
  const device = valueOf(selfTest)?.device
  const names = devices.map(deviceText)
  const state = usable ? names.join(', ') : reason
  const libraries = `driver ${libraryText(driver)}, cuBLASLt ${libraryText(cublasLt)}`
  const choice = usable && device ? `; a model runs on ${device.kind}: ${device.reason}` : ''
  return {
    topic,
    status: usable ? 'ok' : built && devices.length > 0 ? 'warning' : 'unused',
    summary: `${state}; ${libraries}${choice}`,
    facts: { ...cuda, chosen: device?.kind ?? null },
  }
}

function deviceText(device: NativeCudaInfo['devices'][number]): string {
  const { name, computeCapability, memoryBytes, freeBytes } = device
  const free = freeBytes === null ? '' : `${bytesText(freeBytes)} free of `
  return `${name} (${computeCapability}, ${free}${bytesText(memoryBytes)})`
}

function libraryText({ found, version, path }: NativeLibraryInfo): string {
  return found ? `${version || 'of an unknown version'} at ${path}` : 'not found'
}

function sharpFinding({ sharp, ended }: Probe): Finding {
  const versions = valueOf(sharp)
  if (versions) {
    const { sharp: own = '?', vips = '?' } = versions
    const summary = `${own} with libvips ${vips}`
    return { topic: 'sharp', status: 'ok', summary, facts: { sharp: own, vips } }
  }
  return {
    topic: 'sharp',
    status: 'error',
    summary: firstLine(errorOf(sharp) ?? `not tried: the process ${ended ?? 'said nothing'}`),
    remedy:
      'Pictures are decoded by it. Install with "npm install --include=optional sharp" on this machine.',
    facts: { error: errorOf(sharp) ?? ended ?? null },
  }
}

function selfTestFinding({ selfTest, ended }: Probe): Finding {
  const test = valueOf(selfTest)
  if (test && test.answer === test.expected) {
    return {
      topic: 'self-test',
      status: 'ok',
      summary: `the bundled checkpoint was loaded in ${test.loadMs} ms and answered rightly in ${test.answerMs} ms`,
      facts: { ...test },
    }
  }
  const wrong =
    test && `it answered ${JSON.stringify(test.answer)} where it had to ${test.expected}`
  return {
    topic: 'self-test',
    status: 'error',
    summary: wrong ?? errorOf(selfTest) ?? `the process ${ended ?? 'said nothing'}`,
    remedy: wrong
      ? 'The arithmetic is wrong on this machine: please report it with all of this output.'
      : 'What is said above comes first; if there is nothing, please report it with all of this output.',
    facts: { ...test, error: errorOf(selfTest) ?? ended ?? null },
  }
}

function valueOf<T>(outcome: Outcome<T> | undefined): T | undefined {
  return outcome && 'value' in outcome ? outcome.value : undefined
}

function errorOf(outcome: Outcome<unknown> | undefined): string | undefined {
  return outcome && 'error' in outcome ? outcome.error : undefined
}

function firstLine(text: string): string {
  return text.split('\n')[0] ?? text
}
