/**
 * What a built addon needs from the machine it is loaded on, and what it shows, read with the tools of its
 * platform: readelf on Linux, otool and nm on macOS. Windows' tools are on no PATH; there, loading must do.
 */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'

/** Node 20 itself needs this glibc. */
export const GLIBC_FLOOR = '2.28'

/** A word is due before a binary grows beyond this. */
const MAX_BYTES = 16e6

const exported = ['napi_register_module_v1', 'node_api_module_get_api_version_v1']

/** Of the compiler's run-time: looked for, and done without. */
const optional = ['_ITM_deregisterTMCloneTable', '_ITM_registerTMCloneTable', '__gmon_start__']
optional.push('__cxa_pure_virtual', '__cxa_finalize')

/** The libraries that every machine with Node has. No compiler's, and none of NVIDIA's. */
const libraries = {
  'linux-glibc':
    /^(libc\.so\.6|libm\.so\.6|libgcc_s\.so\.1|ld-linux-(x86-64\.so\.2|aarch64\.so\.1))$/,
  'linux-musl': /^(libc\.musl-\w+\.so\.1|libgcc_s\.so\.1)$/,
  'darwin-': /^\/usr\/lib\/lib(System\.B|c\+\+\.1)\.dylib$/,
}

const machines = { x64: 'Advanced Micro Devices X86-64', arm64: 'AArch64' }

/**
 * @returns {{ bytes: number, sha256: string, needs: string[], machine?: string, exports?: string[],
 *   unbound?: string[], glibc?: string, isStripped?: boolean }}
 */
export function inspectBinary(path, platform) {
  const data = readFileSync(path)
  const facts = { bytes: data.length, sha256: createHash('sha256').update(data).digest('hex') }
  if (platform === 'linux') return { ...facts, ...inspectElf(path) }
  if (platform === 'darwin') return { ...facts, ...inspectMachO(path) }
  return { ...facts, needs: [] }
}

/** Each a sentence; none when the binary may be published. */
export function problemsOf(facts, { platform, arch, libc }) {
  const problems = []
  if (facts.bytes > MAX_BYTES) {
    problems.push(`${facts.bytes} bytes are more than ${MAX_BYTES}: what has grown?`)
  }
  if (facts.machine && facts.machine !== machines[arch]) {
    problems.push(`it is for ${facts.machine}, not for ${arch}`)
  }
  const allowed = libraries[`${platform}-${libc}`]
  for (const library of facts.needs) {
    if (allowed && !allowed.test(library)) problems.push(`it needs ${library}`)
  }
  if (facts.exports && facts.exports.join() !== exported.join()) {
    problems.push(`it shows ${facts.exports.join(', ')} instead of ${exported.join(', ')}`)
  }
  for (const name of facts.unbound ?? []) {
    problems.push(`${name} belongs to no library: it would be missing when it is called`)
  }
  if (facts.glibc && compareVersions(facts.glibc, GLIBC_FLOOR) > 0) {
    problems.push(`it needs glibc ${facts.glibc}; ${GLIBC_FLOOR} must do`)
  }
  if (facts.isStripped === false) problems.push('it is not stripped')
  return problems
}

function inspectElf(path) {
  const header = readelf('--file-header', path)
  const needs = matches(readelf('--dynamic', path), /\(NEEDED\).*\[(.+)\]/g)
  const sections = readelf('--section-headers', path)
  // Num: Value Size Type Bind Vis Ndx Name[@version (n)]
  const symbols = readelf('--dyn-syms', path)
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(([number, , , type, , , , name]) => /^\d+:$/.test(number) && name && type !== 'SECTION')
    .map(([, , , , , , section, name]) => ({ name, isUndefined: section === 'UND' }))
  const undefinedNames = symbols.filter(({ isUndefined }) => isUndefined).map(({ name }) => name)
  const versions = undefinedNames.flatMap((name) => matches(name, /@GLIBC_([\d.]+)$/g))
  const isMusl = needs.some((name) => name.startsWith('libc.musl'))
  return {
    needs,
    machine: /Machine:\s+(.+)/.exec(header)?.[1],
    exports: symbols
      .filter(({ isUndefined }) => !isUndefined)
      .map(({ name }) => name)
      .sort(),
    // musl has no versions of symbols.
    unbound: isMusl ? [] : undefinedNames.filter((name) => !isBound(name)),
    glibc: versions.sort(compareVersions).at(-1),
    isStripped: !/\s\.(symtab|debug_info)\s/.test(sections),
  }
}

function isBound(name) {
  return name.includes('@') || /^(napi|node_api)_/.test(name) || optional.includes(name)
}

function inspectMachO(path) {
  const lines = execFileSync('otool', ['-L', path], { encoding: 'utf8' }).split('\n').slice(1)
  const needs = lines.map((line) => line.trim().split(' ')[0]).filter(Boolean)
  const names = matches(execFileSync('nm', ['-gU', path], { encoding: 'utf8' }), / _(\w+)$/gm)
  // otool lists the file's own name first where it has one.
  return { needs: needs.filter((name) => !name.endsWith('.node')), exports: names.sort() }
}

function readelf(option, path) {
  return execFileSync('readelf', ['--wide', option, path], { encoding: 'utf8' })
}

function matches(text, pattern) {
  return [...text.matchAll(pattern)].map(([, group]) => group)
}

export function compareVersions(a, b) {
  const [left, right] = [a, b].map((version) => version.split('.').map(Number))
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}
