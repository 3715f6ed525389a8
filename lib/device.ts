/** Which device a model computes on, why, and how its memory is planned. */
import type { Checkpoint } from './checkpoint/checkpoint.js'
import {
  BackendError,
  InvalidArgumentError,
  OutOfMemoryError,
  type Qwen2VLError,
} from './errors.js'
import { planMemory, type MemoryOptions, type MemoryPlan } from './memory-plan.js'
import type { NativeBinding } from './native.js'

/** The options of loadModel() that bear on the device. */
export interface DeviceOptions extends MemoryOptions {
  device?: string | undefined
}

export interface DeviceChoice {
  /** The GPU's number, or null for the CPU. */
  cudaDevice: number | null
  reason: string
  plan: MemoryPlan
  /** What the weights are kept as; undefined: as they are stored. */
  dtype: 'bf16' | 'fp16' | 'fp32' | undefined
}

/** What there is to plan with. */
type Planned = Pick<Checkpoint, 'config' | 'weightFiles'>
type Half = 'bf16' | 'fp16'

/**
 * Chooses the device and plans its memory. `auto` takes the first GPU where it can be used and holds the model,
 * and otherwise the CPU with the reason; a GPU that is asked for and cannot be used is refused with it.
 *
 * @throws BackendError `ERR_BACKEND_UNAVAILABLE`, InvalidArgumentError for options that the GPU does not have,
 *   OutOfMemoryError.
 */
export async function chooseDevice(
  binding: Pick<NativeBinding, 'cpuInfo' | 'cudaInfo'>,
  checkpoint: Planned,
  options: DeviceOptions,
): Promise<DeviceChoice> {
  const { device = 'auto' } = options
  if (device === 'cpu') return onCpu(binding, checkpoint, options, 'the caller asked for it')
  if (device !== 'auto') return onCuda(binding, checkpoint, options, device)
  try {
    return await onCuda(binding, checkpoint, options, device)
  } catch (error) {
    if (!isRefusal(error)) throw error
    return onCpu(binding, checkpoint, options, reasonOf(error))
  }
}

const isRefusal = (error: unknown): error is Qwen2VLError =>
  error instanceof BackendError ||
  error instanceof InvalidArgumentError ||
  error instanceof OutOfMemoryError

/** Why a GPU was not taken, without the advice that goes to callers who asked for it. */
function reasonOf(error: Qwen2VLError): string {
  if (error instanceof OutOfMemoryError) return `not enough memory on the GPU: ${error.message}`
  const { reason } = error.details
  return typeof reason === 'string' ? reason : error.message
}

async function onCpu(
  binding: Pick<NativeBinding, 'cpuInfo'>,
  checkpoint: Planned,
  options: DeviceOptions,
  reason: string,
): Promise<DeviceChoice> {
  const availableBytes = binding.cpuInfo().availableMemoryBytes
  const budget = { availableBytes, kvShare: KV_SHARE.cpu, owner: 'the system' } as const
  const plan = await planMemory(checkpoint, options, budget)
  const { dtype = 'auto' } = options
  return { cudaDevice: null, reason, plan, dtype: dtype === 'auto' ? undefined : dtype }
}

async function onCuda(
  binding: Pick<NativeBinding, 'cudaInfo'>,
  checkpoint: Planned,
  options: DeviceOptions,
  asked: string,
): Promise<DeviceChoice> {
  const dtype = cudaType(checkpoint, options)
  const ordinal = Number(asked.split(':')[1] ?? 0)
  const info = await binding.cudaInfo(ordinal)
  const found = info.devices[ordinal]
  const missing = !found && `there is no CUDA device ${ordinal}, but ${info.devices.length}`
  const reason = missingBesideDevices(info) || missing || found?.reason
  if (reason || !found) throw unavailable(asked, reason || 'no CUDA device')
  const plan = await planMemory(
    checkpoint,
    { ...options, dtype, kvCacheType: dtype },
    {
      availableBytes: Math.max(
        (found.freeBytes ?? found.memoryBytes) - workingBytes(checkpoint, options),
        1,
      ),
      kvShare: KV_SHARE.cuda,
      owner: 'the GPU',
    },
  )
  const why = asked === 'auto' ? 'the first GPU that can be used' : 'the caller asked for it'
  return { cudaDevice: ordinal, reason: why, plan, dtype }
}

/** What the driver, cuBLASLt and the modules of kernels take before the first tensor, rounded up. */
const WORKING_BYTES = 2 ** 28
/** That and, of quantised weights, the largest matrix in 16 bits: products of many rows need it so. */
function workingBytes(
  { config }: Planned,
  { quantization = 'none', visionQuantization = 'none' }: DeviceOptions,
) {
  const isQuantized = quantization !== 'none' || visionQuantization !== 'none'
  if (!isQuantized && !config.storedQuantization) return WORKING_BYTES
  const gateAndUp = 2 * config.intermediateSize * config.hiddenSize
  const head = quantization !== 'none' ? config.vocabSize * config.hiddenSize : 0
  return WORKING_BYTES + 2 * Math.max(gateAndUp, head)
}
/**
 * What the KV cache may have of the memory that the weights leave. On a GPU the rest is for images and the activations
 * of a step; a machine has more to do.
 */
const KV_SHARE = { cpu: 0.25, cuda: 0.6 } as const

/** What keeps every GPU from being used; undefined when one might be. */
function missingBesideDevices(info: Awaited<ReturnType<NativeBinding['cudaInfo']>>) {
  return info.usable || info.devices.some((device) => device.reason !== '')
    ? undefined
    : info.reason
}

function unavailable(device: string, reason: string): BackendError {
  return new BackendError(
    'ERR_BACKEND_UNAVAILABLE',
    `device '${device}' is not available: ${reason}. Use device 'auto' or 'cpu'.`,
    { details: { device, reason } },
  )
}

/** The 16-bit type of weights, activations and KV cache; throws for options that only the CPU has. */
function cudaType({ config }: Planned, options: DeviceOptions): Half {
  const { dtype = 'auto', kvCacheType = 'auto', weights, activations } = options
  const refuse = (path: string, what: string) =>
    new InvalidArgumentError(
      `loadModel() options: ${what}, which only the CPU has. Leave ${path} out, or use device 'cpu'.`,
      { path, details: { reason: `the options ask for ${what}, which only the CPU has` } },
    )
  if (weights === 'mapped') throw refuse('weights', `weights: 'mapped'`)
  if (activations === 'int8') throw refuse('activations', `activations: 'int8'`)
  if (dtype === 'fp32') throw refuse('dtype', `dtype: 'fp32'`)
  const kept = dtype === 'auto' ? (config.dtype === 'fp16' ? 'fp16' : 'bf16') : dtype
  if (kvCacheType !== 'auto' && kvCacheType !== kept) {
    throw refuse('kvCacheType', `kvCacheType: '${kvCacheType}' beside ${kept} weights`)
  }
  return kept
}
