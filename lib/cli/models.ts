/** `qwen2-vl models`: what is in the cache, and how to be rid of it. */
import { Command, Option } from 'commander'
import { bytesText } from '../bytes-text.js'
import { ModelNotFoundError } from '../errors.js'
import {
  listModels,
  removeModel,
  type CachedModel,
  type CacheOptions,
} from '../hub/cached-models.js'

export function modelsCommand(): Command {
  const list = withCacheOptions(new Command('list'))
    .description('List the Qwen2-VL models in the cache, whoever downloaded them')
    .option('--json', 'print the list as JSON')
    .action(listCommand)
  const remove = withCacheOptions(new Command('remove'))
    .description('Remove models from the cache, with all their commits')
    .argument('<id...>', 'owner/name, as the list has them')
    .action(removeCommand)
  return new Command('models')
    .description('List or remove the models in the cache')
    .addCommand(list, { isDefault: true })
    .addCommand(remove)
}

function withCacheOptions(command: Command): Command {
  return command
    .option('--cache-dir <folder>', 'default: HF_HUB_CACHE, else hub in HF_HOME')
    .addOption(
      new Option('--source <hub>', 'where they came from').choices(['huggingface', 'modelscope']),
    )
}

async function listCommand({ json, ...cache }: CacheOptions & { json?: true }): Promise<void> {
  const models = await listModels(cache)
  if (json) process.stdout.write(JSON.stringify(models, null, 2) + '\n')
  else if (models.length === 0) process.stderr.write('There are no models in the cache.\n')
  else process.stdout.write(models.map(row).join(''))
}

/** Name, commit, size and state, with tabs between them. */
function row({ id, source, commit, revisions, bytes, complete }: CachedModel): string {
  const version = [commit?.slice(0, 12), ...revisions].filter(Boolean).join(' ')
  const state = complete ? 'complete' : 'incomplete'
  const origin = source === 'huggingface' ? [] : [source]
  return [id, version || '-', bytesText(bytes), state, ...origin].join('\t') + '\n'
}

async function removeCommand(ids: string[], cache: CacheOptions): Promise<void> {
  for (const id of ids) {
    const bytes = await removeModel(id, cache)
    if (bytes === 0) {
      throw new ModelNotFoundError(
        `${id} is not in the cache. "qwen2-vl models" lists what is there.`,
        { details: { id } },
      )
    }
    process.stdout.write(`${id}: ${bytesText(bytes)} freed\n`)
  }
}
