/** Writes safetensors files, cut into shards as published checkpoints are. */
import { open } from 'node:fs/promises'
import { join } from 'node:path'

/** A tensor to write; its bytes come later. */
export interface PlannedTensor {
  name: string
  /** As the format names it: `BF16`, `F16`, `F32`, `I32`. */
  dtype: string
  shape: readonly number[]
}

const WIDTHS: Readonly<Record<string, number>> = { BF16: 2, F16: 2, F32: 4, I32: 4 }

/** The largest file that is written, but for a tensor that is larger alone. */
const SHARD_BYTES = 4e9

export function bytesOf({ shape, dtype }: PlannedTensor): number {
  return shape.reduce((product, size) => product * size, 1) * (WIDTHS[dtype] ?? Number.NaN)
}

/**
 * Writes `model.safetensors`, or shards and their index, which comes last.
 *
 * @param groups tensors in the order of the files; those of a group stay in one file.
 * @param write gives the bytes of a group's tensors, in order, in pieces.
 * @returns the files with tensors, and the sizes that they have when all bytes are there.
 */
export async function writeSafetensors<Group extends { tensors: readonly PlannedTensor[] }>(
  folder: string,
  groups: readonly Group[],
  write: (group: Group) => AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): Promise<{ file: string; size: number }[]> {
  const shards = toShards(groups)
  const weightMap: Record<string, string> = {}
  const files: { file: string; size: number }[] = []
  let totalSize = 0
  for (const [index, shard] of shards.entries()) {
    const number = (n: number) => String(n).padStart(5, '0')
    const file =
      shards.length === 1
        ? 'model.safetensors'
        : `model-${number(index + 1)}-of-${number(shards.length)}.safetensors`
    const header: Record<string, unknown> = { __metadata__: { format: 'pt' } }
    let offset = 0
    for (const tensor of shard.flatMap(({ tensors }) => tensors)) {
      const { name, dtype, shape } = tensor
      const end = offset + bytesOf(tensor)
      header[name] = { dtype, shape, data_offsets: [offset, end] }
      weightMap[name] = file
      offset = end
    }
    totalSize += offset
    const json = Buffer.from(JSON.stringify(header))
    const length = Buffer.alloc(8)
    length.writeBigUInt64LE(BigInt(json.length))
    files.push({ file, size: length.length + json.length + offset })
    await using handle = await open(join(folder, file), 'w')
    await handle.writeFile(Buffer.concat([length, json]))
    for (const group of shard) {
      for await (const piece of write(group)) await handle.writeFile(piece)
    }
  }
  if (shards.length === 1) return files
  const map = { metadata: { total_size: totalSize }, weight_map: weightMap }
  await using handle = await open(join(folder, 'model.safetensors.index.json'), 'w')
  await handle.writeFile(JSON.stringify(map, null, 1) + '\n')
  return files
}

function toShards<Group extends { tensors: readonly PlannedTensor[] }>(
  groups: readonly Group[],
): Group[][] {
  let shard: Group[] = []
  const shards = [shard]
  let used = 0
  for (const group of groups) {
    const bytes = group.tensors.reduce((sum, tensor) => sum + bytesOf(tensor), 0)
    if (used > 0 && used + bytes > SHARD_BYTES) {
      shards.push((shard = []))
      used = 0
    }
    shard.push(group)
    used += bytes
  }
  return shards
}
