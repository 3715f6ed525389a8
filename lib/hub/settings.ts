/** Where models come from and where they are kept: options first, then the variables Python reads. */
import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { z } from 'zod'
import { InvalidArgumentError } from '../errors.js'

/** Whose interface the endpoint speaks. */
export type HubSource = 'huggingface' | 'modelscope'

/** The options that every function of the hub takes, and `loadModel()` as well. */
export const hubOptionsShape = {
  /** Whose interface is spoken. Default: `huggingface`. */
  source: z.enum(['huggingface', 'modelscope']).optional(),
  /** Where it is, for mirrors. Default: HF_ENDPOINT, else https://huggingface.co or https://modelscope.cn. */
  endpoint: z.string().min(1).optional(),
  /** The cache folder. Default: HF_HUB_CACHE, else `hub` in HF_HOME, which is `~/.cache/huggingface`. */
  cacheDir: z.string().min(1).optional(),
  /** A branch, tag or commit. Default: `main`; of ModelScope `master`. */
  revision: z.string().min(1).optional(),
  /**
   * For private and gated models. Default: HF_TOKEN, else the file that `hf auth login` wrote; for ModelScope
   * MODELSCOPE_API_TOKEN. `false` = none. It is sent to the endpoint alone, never where that redirects to.
   */
  token: z.union([z.string().min(1), z.literal(false)]).optional(),
  /** Whether the network is left alone. Default: HF_HUB_OFFLINE. */
  offline: z.boolean().optional(),
}

/** Options of the hub as the caller gave them. */
export interface HubOptions {
  source?: HubSource | undefined
  endpoint?: string | undefined
  cacheDir?: string | undefined
  revision?: string | undefined
  token?: string | false | undefined
  offline?: boolean | undefined
}

/** Options with everything decided. */
export interface HubSettings {
  source: HubSource
  /** Without a slash at its end. */
  endpoint: string
  /** Absolute path of the folder with `models--owner--name`. */
  cacheDir: string
  revision: string
  token: string | undefined
  offline: boolean
  /** Whether snapshots may hold symbolic links; where not, they hold the files themselves. */
  symlinks: boolean
}

type Environment = Readonly<Record<string, string | undefined>>

/** Decides everything that the options leave open. */
export async function hubSettings(
  options: HubOptions,
  env: Environment = process.env,
): Promise<HubSettings> {
  const source = options.source ?? 'huggingface'
  const endpoint = checkEndpoint(
    options.endpoint ??
      (source === 'modelscope'
        ? 'https://modelscope.cn'
        : env['HF_ENDPOINT'] || 'https://huggingface.co'),
  )
  return {
    source,
    endpoint,
    cacheDir: hubCacheFolder(options, env),
    revision: checkRevision(options.revision ?? (source === 'modelscope' ? 'master' : 'main')),
    token: await findToken(options.token, source, env),
    offline:
      options.offline ?? (isTrue(env['HF_HUB_OFFLINE']) || isTrue(env['TRANSFORMERS_OFFLINE'])),
    symlinks: !isTrue(env['HF_HUB_DISABLE_SYMLINKS']),
  }
}

/**
 * The cache folder. What came from ModelScope is kept in a folder of its own below it: an owner's name there
 * need not be the same person's as on the Hugging Face hub.
 */
export function hubCacheFolder(
  { cacheDir, source }: HubOptions,
  env: Environment = process.env,
): string {
  const given = cacheDir ?? (env['HF_HUB_CACHE'] || env['HUGGINGFACE_HUB_CACHE'])
  const root = given ? resolve(expand(given)) : join(hubHome(env), 'hub')
  return source === 'modelscope' ? join(root, 'modelscope') : root
}

function hubHome(env: Environment): string {
  const home = env['HF_HOME']
  if (home) return resolve(expand(home))
  return join(resolve(expand(env['XDG_CACHE_HOME'] || '~/.cache')), 'huggingface')
}

function expand(path: string): string {
  return /^~(?=$|[/\\])/.test(path) ? join(homedir(), path.slice(1)) : path
}

function isTrue(value: string | undefined): boolean {
  return /^(1|on|yes|true)$/i.test(value ?? '')
}

function checkEndpoint(endpoint: string): string {
  let url
  try {
    url = new URL(endpoint)
  } catch {
    // told below
  }
  if (!url || !/^https?:$/.test(url.protocol) || url.username || url.search || url.hash) {
    throw new InvalidArgumentError(
      `The hub's endpoint is '${endpoint}'; an address like https://huggingface.co was expected. Change ` +
        'the option endpoint or the variable HF_ENDPOINT.',
      { path: 'endpoint' },
    )
  }
  return url.href.replace(/\/+$/, '')
}

/** A revision becomes part of a path: nothing that leads elsewhere passes. */
function checkRevision(revision: string): string {
  const parts = revision.split('/')
  if (parts.every((part) => /^[\w.+@-]+$/.test(part) && !/^\.+$/.test(part))) return revision
  throw new InvalidArgumentError(
    `The revision '${revision}' is none: the name of a branch or tag, or a commit, was expected.`,
    { path: 'revision' },
  )
}

async function findToken(
  given: string | false | undefined,
  source: HubSource,
  env: Environment,
): Promise<string | undefined> {
  if (given !== undefined)
    return given === false ? undefined : checkToken(given, 'The option token')
  if (source === 'modelscope') {
    return checkToken(env['MODELSCOPE_API_TOKEN'], 'The variable MODELSCOPE_API_TOKEN')
  }
  if (isTrue(env['HF_HUB_DISABLE_IMPLICIT_TOKEN'])) return undefined
  const named = env['HF_TOKEN']?.trim() || env['HUGGING_FACE_HUB_TOKEN']
  const fromEnv = checkToken(named, 'The variable HF_TOKEN')
  if (fromEnv !== undefined) return fromEnv
  const file = expand(env['HF_TOKEN_PATH'] || join(hubHome(env), 'token'))
  const text = await readFile(file, 'utf8').catch(() => '') // none is the usual case
  return checkToken(text, `The file ${file}`)
}

/** A token goes into a header; what cannot stand there is told without showing it. */
function checkToken(token: string | undefined, where: string): string | undefined {
  const text = token?.trim()
  if (!text) return undefined
  if (/^[\x21-\x7e]+$/.test(text)) return text
  throw new InvalidArgumentError(
    `${where} holds more than a token: one word of plain letters was expected, such as hf_….`,
    { path: 'token' },
  )
}
