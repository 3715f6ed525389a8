/** What ptxas -v says of each kernel: registers, stack, spills, static shared memory. */

/** One kernel on one architecture. */
export interface KernelResources {
  kernel: string
  /** 80, 86, ... */
  arch: number
  registers: number
  stack: number
  spillStores: number
  spillLoads: number
  staticShared: number
}

/** Reads the output of one or several runs of ptxas. */
export function parsePtxas(text: string): KernelResources[] {
  const kernels: KernelResources[] = []
  for (const part of text.split("Compiling entry function '").slice(1)) {
    const name = /^([^']+)' for 'sm_(\d+)/.exec(part)
    const stack = /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/.exec(
      part,
    )
    const used = /Used (\d+) registers/.exec(part)
    if (!name || !stack || !used) {
      throw new Error(`ptxas says something unexpected of a kernel: '${part.slice(0, 200)}'`)
    }
    kernels.push({
      kernel: name[1] ?? '',
      arch: Number(name[2]),
      registers: Number(used[1]),
      stack: Number(stack[1]),
      spillStores: Number(stack[2]),
      spillLoads: Number(stack[3]),
      staticShared: Number(/(\d+) bytes smem/.exec(part)?.[1] ?? 0),
    })
  }
  return kernels
}
