/** Whether the disk holds what is to come, and what its errors mean. */
import { mkdir, statfs } from 'node:fs/promises'
import { DownloadError, Qwen2VLError } from '../errors.js'

/** Left free, so that the machine stays usable. */
const MARGIN_BYTES = 64 << 20

/** @throws DownloadError when `folder` has no room for so many bytes. */
export async function checkDiskSpace(folder: string, bytes: number): Promise<void> {
  await mkdir(folder, { recursive: true })
  const { bavail, bsize } = await statfs(folder)
  const available = bavail * bsize
  if (bytes === 0 || bytes + MARGIN_BYTES <= available) return
  throw new DownloadError(
    'ERR_DOWNLOAD_DISK_SPACE',
    `${folder} has room for ${mebibytes(available)} MiB, but ${mebibytes(bytes)} MiB are still to come. Free some, or ` +
      'choose another disk with HF_HOME or the option cacheDir. Nothing was downloaded.',
    { resumable: true, details: { folder, requiredBytes: bytes, availableBytes: available } },
  )
}

function mebibytes(bytes: number): string {
  return Math.ceil(bytes / (1 << 20)).toLocaleString('en')
}

/** The package's error for a failure of the file system; any other error as it is. */
export function diskError(error: unknown, path: string): unknown {
  const { code, syscall, message } = error as NodeJS.ErrnoException
  if (Qwen2VLError.isInstance(error) || typeof syscall !== 'string') return error
  const isFull = code === 'ENOSPC' || code === 'EDQUOT'
  return new DownloadError(
    isFull ? 'ERR_DOWNLOAD_DISK_SPACE' : 'ERR_DOWNLOAD_FILE',
    isFull
      ? `The disk of ${path} is full. Free some of it and start again: what is there already is kept.`
      : `${path} cannot be written (${message}). Check the permissions of the cache folder, or choose another ` +
          'with HF_HOME or the option cacheDir.',
    { cause: error, resumable: true, details: { path } },
  )
}
