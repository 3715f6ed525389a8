/** Bounded, asynchronous reading of a checkpoint's small files, and strict JSON with messages that help. */
import { open, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { CheckpointError } from '../errors.js'

const MIB = 1 << 20

/** Largest size a file may have before it is read; beyond that it is not what its name says. */
export const MAX_CONFIG_BYTES = 16 * MIB
export const MAX_INDEX_BYTES = 64 * MIB
export const MAX_TOKENIZER_BYTES = 256 * MIB

/** A parsed JSON object, values unchecked. */
export type JsonObject = Record<string, unknown>

/**
 * Reads `folder/name` as UTF-8 text, without a byte order mark.
 *
 * @returns undefined when there is no such file.
 * @throws CheckpointError when it is not a regular file, larger than `maxBytes`, unreadable, not
 *   UTF-8, or a Git LFS pointer in the place of the file.
 */
export async function readTextFile(
  folder: string,
  name: string,
  maxBytes: number,
): Promise<string | undefined> {
  const file = join(folder, name)
  const size = await regularFileSize(file)
  if (size === undefined) return undefined
  if (size > maxBytes) {
    throw new CheckpointError(
      'ERR_CHECKPOINT_FILE_TOO_LARGE',
      `${file} is ${size.toLocaleString('en')} bytes; at most ${maxBytes.toLocaleString('en')} ` +
        `are read of a ${name}. It is not the file its name says; download it again.`,
      { details: { file, bytes: size, limit: maxBytes } },
    )
  }
  const bytes = await readBytes(file, size)
  if (isLfsPointer(bytes)) throw lfsPointer(file)
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (cause) {
    throw new CheckpointError(
      'ERR_CHECKPOINT_READ',
      `${file} is not UTF-8 text. Download it again or re-save it as UTF-8.`,
      { cause, details: { file } },
    )
  }
}

/** {@link readTextFile} and {@link parseJsonObject} in one; undefined when there is no such file. */
export async function readJsonFile(
  folder: string,
  name: string,
  maxBytes = MAX_CONFIG_BYTES,
): Promise<JsonObject | undefined> {
  const text = await readTextFile(folder, name, maxBytes)
  return text === undefined ? undefined : parseJsonObject(text, join(folder, name))
}

/**
 * Size in bytes, or undefined when there is nothing at `file`.
 *
 * @throws CheckpointError when there is something else than a regular file, or it cannot be asked.
 */
export async function regularFileSize(file: string): Promise<number | undefined> {
  let info
  try {
    info = await stat(file)
  } catch (cause) {
    if (isMissing(cause)) return undefined
    throw unreadable(file, cause)
  }
  if (info.isFile()) return info.size
  throw new CheckpointError(
    'ERR_CHECKPOINT_READ',
    `${file} is ${info.isDirectory() ? 'a folder' : 'not a regular file'}; a file was expected.`,
    { details: { file } },
  )
}

/**
 * Refuses a weight file that is a Git LFS pointer: what a clone without `git lfs` leaves behind.
 *
 * @param size of the file in bytes, so that only files that can be pointers are opened.
 */
export async function refuseLfsPointer(file: string, size: number): Promise<void> {
  if (size <= LFS_POINTER_MAX_BYTES && isLfsPointer(await readBytes(file, size))) {
    throw lfsPointer(file)
  }
}

/** Parses strict JSON whose root is an object. */
export function parseJsonObject(text: string, file: string): JsonObject {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new CheckpointError(
      'ERR_CHECKPOINT_JSON',
      nonFiniteNumber(text, file) ?? `${file} is not valid JSON: ${(cause as Error).message}.`,
      { cause, details: { file } },
    )
  }
  if (isJsonObject(value)) return value
  throw new CheckpointError(
    'ERR_CHECKPOINT_JSON',
    `${file} holds ${describeJson(value)}; a JSON object was expected.`,
    { details: { file } },
  )
}

/** True for a JSON object, false for null and arrays. */
export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A value as messages show it: short, and never more than a line. */
export function describeJson(value: unknown): string {
  if (value === undefined) return 'nothing'
  if (Array.isArray(value) && value.length > 8) return `an array of ${value.length}`
  if (typeof value === 'number' && !Number.isFinite(value)) return 'a number beyond all bounds'
  const text = JSON.stringify(value)
  return text.length > 80 ? `${text.slice(0, 77)}...` : text
}

const LFS_POINTER_START = 'version https://git-lfs.github.com/spec/'
const LFS_POINTER_MAX_BYTES = 1024

function isLfsPointer(bytes: Uint8Array): boolean {
  return Buffer.from(bytes.subarray(0, LFS_POINTER_START.length)).toString() === LFS_POINTER_START
}

function lfsPointer(file: string): CheckpointError {
  return new CheckpointError(
    'ERR_CHECKPOINT_LFS_POINTER',
    `${file} is a Git LFS pointer, not the file itself. Run "git lfs pull" in the folder, or ` +
      'download the checkpoint again.',
    { details: { file } },
  )
}

/** Reads exactly the `size` bytes that were checked against a limit, whatever becomes of the file. */
async function readBytes(file: string, size: number): Promise<Uint8Array> {
  try {
    await using handle = await open(file, 'r')
    const buffer = Buffer.alloc(size)
    let filled = 0
    while (filled < size) {
      const { bytesRead } = await handle.read(buffer, filled, size - filled, filled)
      if (bytesRead === 0) break
      filled += bytesRead
    }
    return buffer.subarray(0, filled)
  } catch (cause) {
    throw unreadable(file, cause)
  }
}

function unreadable(file: string, cause: unknown): CheckpointError {
  return new CheckpointError(
    'ERR_CHECKPOINT_READ',
    `${file} cannot be read (${(cause as Error).message}). Check the permissions of the file and its folders.`,
    { cause, details: { file } },
  )
}

function isMissing(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException
  return code === 'ENOENT' || code === 'ENOTDIR'
}

/** Python's json module writes NaN and Infinity, which are not JSON; says so, and for which key. */
function nonFiniteNumber(text: string, file: string): string | undefined {
  // Strings are matched as wholes first, so that a NaN inside one is not taken for a number.
  const tokens = /"(?:[^"\\]|\\.)*"|\bNaN\b|-?\bInfinity\b/g
  let key = ''
  for (const [token] of text.matchAll(tokens)) {
    if (!token.startsWith('"')) {
      return (
        `${file} has the number ${token}${key === '' ? '' : ` after ${key}`}. Python writes it, but ` +
        'it is not JSON and no setting can mean it: the file is damaged or its export went wrong.'
      )
    }
    key = token.slice(0, 80)
  }
  return undefined
}
