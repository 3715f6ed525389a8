/** Checks option objects against their schema; the first problem becomes an InvalidArgumentError. */
import type { z } from 'zod'
import { InvalidArgumentError } from '../errors.js'
import { nearestName } from '../suggest.js'

/** How an options object is called, and which other names it may use. */
export interface OptionNames {
  /** Names the object in messages, for example `loadModel() options`. */
  what: string
  /** A right one, for messages. */
  example: string
  /** Other spellings, and the option that each of them is. */
  aliases?: Readonly<Record<string, string>>
  /** Names that are known but refused, each with the way out. */
  unsupported?: Readonly<Record<string, string>>
}

/**
 * Checks an options object and brings aliases to their one name; undefined counts as not given.
 *
 * @throws InvalidArgumentError with `path`, and a `suggestion` for an unknown name.
 */
export function parseOptions<Schema extends z.ZodObject>(
  schema: Schema,
  value: unknown,
  { what, example, aliases = {}, unsupported = {} }: OptionNames,
): z.output<Schema> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new InvalidArgumentError(`${what}: must be an object such as ${example}.`, { path: '' })
  }
  const options: Record<string, unknown> = {}
  for (const [given, option] of Object.entries(value)) {
    if (option === undefined) continue
    if (Object.hasOwn(unsupported, given)) {
      throw new InvalidArgumentError(`${what}: '${given}' is not accepted. ${unsupported[given]}`, {
        path: given,
      })
    }
    const name = (Object.hasOwn(aliases, given) && aliases[given]) || given
    if (Object.hasOwn(options, name) && options[name] !== option) {
      throw new InvalidArgumentError(
        `${what}: '${name}' is given twice with different values, once as '${given}'. Give it once.`,
        { path: given },
      )
    }
    options[name] = option
  }
  const result = schema.safeParse(options)
  if (result.success) return result.data
  // Unknown names first: a misspelt option often causes other complaints as well.
  const { issues } = result.error
  const issue = issues.find(({ code }) => code === 'unrecognized_keys') ?? issues[0]
  if (issue === undefined) throw result.error
  const path = issue.path.map(String)
  if (issue.code === 'unrecognized_keys') {
    const names = [...Object.keys(schema.shape), ...Object.keys(aliases)]
    throw unknownOption([...path, ...issue.keys.slice(0, 1)], what, names)
  }
  throw new InvalidArgumentError(`${what}: ${path.join('.')} ${complaint(issue, options)}`, {
    path: path.join('.'),
  })
}

function unknownOption(
  keys: string[],
  what: string,
  names: readonly string[],
): InvalidArgumentError {
  const path = keys.join('.')
  // Only names of the outer object are known here.
  const suggestion = keys.length === 1 ? nearestName(path, likelyFirst(names, path)) : undefined
  const wayOut = suggestion
    ? `Did you mean '${suggestion}'?`
    : `The options are: ${names.join(', ')}.`
  return new InvalidArgumentError(`${what}: there is no option '${path}'. ${wayOut}`, {
    path,
    ...(suggestion !== undefined && { suggestion }),
  })
}

/** Names in the spelling of `name` first, so that they win among equally near ones. */
function likelyFirst(names: readonly string[], name: string): string[] {
  const isSnakeCase = name.includes('_')
  return [...names].sort(
    (a, b) => Number(a.includes('_') !== isSnakeCase) - Number(b.includes('_') !== isSnakeCase),
  )
}

function complaint(issue: z.core.$ZodIssue, root: unknown): string {
  const found = show(issue.path.reduce<unknown>((value, key) => property(value, key), root))
  switch (issue.code) {
    case 'invalid_type':
      return `must be ${article(issue.expected)}, not ${found}.`
    case 'too_small':
      return issue.origin === 'string' || issue.origin === 'array'
        ? `must not be empty.`
        : `must be ${issue.inclusive ? 'at least' : 'more than'} ${issue.minimum}, not ${found}.`
    case 'too_big':
      return `must be ${issue.inclusive ? 'at most' : 'less than'} ${issue.maximum}, not ${found}.`
    case 'invalid_value':
      return `must be one of ${issue.values.map(show).join(', ')}, not ${found}.`
    default:
      return `${issue.message.replace(/\.$/, '')}, not ${found}.`
  }
}

function property(value: unknown, key: PropertyKey): unknown {
  return typeof value === 'object' && value !== null
    ? (value as Record<PropertyKey, unknown>)[key]
    : undefined
}

const article = (type: string) => {
  if (type === 'int') return 'a whole number'
  return `${/^[aeiou]/.test(type) ? 'an' : 'a'} ${type}`
}

function show(value: unknown): string {
  if (typeof value === 'string') return `'${value.length > 40 ? `${value.slice(0, 40)}…` : value}'`
  if (typeof value === 'bigint') return `${value}n`
  if (value === null || typeof value !== 'object') return String(value)
  return Array.isArray(value) ? 'an array' : 'an object'
}
