/** The tools of a request: the definitions that callers write, checked and in one form. */
import { readSchema, type Schema, type SchemaSource } from '../constraint/schema-source.js'
import { invalid, isRecord, nameOf, quoted, refuseUnknownKeys } from './checks.js'
import { nearestName } from '../suggest.js'

/** A function that the model may ask the caller to run. */
export interface FunctionTool {
  name: string
  /** What it does, for the model. */
  description?: string
  /** JSON Schema of the object of its arguments, or a Zod or Standard Schema object. Default: no arguments. */
  parameters?: SchemaSource
  /** Accepted and without effect: calls always follow the schema. */
  strict?: boolean | null
}

/** A tool in the package's own form, in that of OpenAI's chat completions, or of its Responses API. */
export type ToolDefinition =
  | (FunctionTool & { type?: 'function' | (string & {}) })
  | { type: 'function' | (string & {}); function: FunctionTool }

/** Whether the model may, must not or must call a tool, or which one it must. */
export type ToolChoice =
  | 'auto'
  | 'none'
  | 'required'
  | { name: string; type?: 'function' }
  | { type: 'function'; function: { name: string } }

/** A checked tool. */
export interface Tool {
  name: string
  description: string
  parameters: Schema
}

/** How a request uses tools. */
export interface ToolUse {
  tools: readonly Tool[]
  /** `name`: that one. */
  choice: 'auto' | 'required' | { name: string }
  /** An answer may have several calls. */
  parallel: boolean
}

/** The definitions of a request as plain data: schemas as JSON Schema. */
export function toolsToJson(definitions: unknown): FunctionTool[] {
  return readTools(definitions).map(({ name, description, parameters }) => ({
    name,
    description,
    parameters: parameters.json,
  }))
}

/** What of a request bears on tools. */
export interface ToolOptions {
  tools?: unknown
  toolChoice?: unknown
  parallelToolCalls?: boolean | undefined
}

/**
 * Checks the tools of a request; undefined where the model is told of none.
 *
 * @throws InvalidArgumentError with the `path` of the first fault, e.g. `tools[0].function.name`.
 */
export function readToolUse({
  tools: given,
  toolChoice,
  parallelToolCalls,
}: ToolOptions): ToolUse | undefined {
  const tools = readTools(given)
  const choice = readChoice(toolChoice, tools)
  if (tools.length > 0) {
    return choice === 'none' ? undefined : { tools, choice, parallel: parallelToolCalls ?? false }
  }
  for (const [path, isWrong] of [
    ['toolChoice', choice !== 'auto' && choice !== 'none'],
    ['parallelToolCalls', parallelToolCalls !== undefined],
  ] as const) {
    if (isWrong) {
      throw invalid(path, `${path} is given, but no tools. Give a list as tools, or leave it out.`)
    }
  }
  return undefined
}

function readTools(given: unknown): Tool[] {
  if (given === undefined) return []
  if (!Array.isArray(given)) {
    throw invalid('tools', `tools must be a list of tools, not ${nameOf(given)}. ${example}`)
  }
  const tools = given.map((tool: unknown, index) => readTool(tool, `tools[${index}]`))
  tools.forEach(({ name }, index) => {
    const first = tools.findIndex((tool) => tool.name === name)
    if (first === index) return
    throw invalid(
      `tools[${index}].name`,
      `tools[${index}] and tools[${first}] are both named '${name}'. Give each a name of its own.`,
    )
  })
  return tools
}

function readTool(given: unknown, path: string): Tool {
  if (!isRecord(given)) {
    throw invalid(path, `${path} must be an object, not ${nameOf(given)}. ${example}`)
  }
  const { type, function: nested } = given
  if (type !== undefined && type !== 'function') {
    throw invalid(
      `${path}.type`,
      `${path}.type must be 'function', not ${typeof type === 'string' ? `'${type}'` : nameOf(type)}: ` +
        'the package runs no tools of its own.',
      'function',
    )
  }
  if (nested === undefined) return readFunction(given, [...functionKeys, 'type'], path)
  refuseUnknownKeys(given, ['type', 'function'], path)
  if (!isRecord(nested)) {
    throw invalid(
      `${path}.function`,
      `${path}.function must be an object, not ${nameOf(nested)}. ${example}`,
    )
  }
  return readFunction(nested, functionKeys, `${path}.function`)
}

function readFunction(given: Record<string, unknown>, keys: readonly string[], path: string): Tool {
  refuseUnknownKeys(given, keys, path)
  const { name, strict } = given
  const description = given['description'] ?? ''
  if (typeof name !== 'string' || !/^[\w.-]{1,64}$/.test(name)) {
    throw invalid(
      `${path}.name`,
      `${path}.name must be 1 to 64 letters, digits, '_', '-' and '.', not ` +
        `${typeof name === 'string' ? `'${name}'` : nameOf(name)}.`,
    )
  }
  if (typeof description !== 'string') {
    throw invalid(
      `${path}.description`,
      `${path}.description must be a text, not ${nameOf(description)}.`,
    )
  }
  if (strict !== undefined && strict !== null && typeof strict !== 'boolean') {
    throw invalid(`${path}.strict`, `${path}.strict must be true or false, not ${nameOf(strict)}.`)
  }
  return { name, description, parameters: readParameters(given['parameters'], path) }
}

function readParameters(given: unknown, path: string): Schema {
  const schema = readSchema(given ?? { type: 'object', properties: {} }, `${path}.parameters`)
  const { json } = schema
  if (isRecord(json) && (json['type'] === 'object' || '$ref' in json)) return schema
  throw invalid(
    `${path}.parameters`,
    `${path}.parameters must be the JSON Schema of an object, { type: 'object', properties: { … } }: ` +
      'arguments have names.',
  )
}

function readChoice(given: unknown, tools: readonly Tool[]): ToolUse['choice'] | 'none' {
  if (given === undefined) return 'auto'
  if (typeof given === 'string') {
    if (given === 'auto' || given === 'none' || given === 'required') return given
    const suggestion = nearestName(given, choices)
    throw invalid(
      'toolChoice',
      `toolChoice is '${given}'. It must be 'auto', 'none', 'required' or { name: '…' }.` +
        (suggestion === undefined ? '' : ` Did you mean '${suggestion}'?`),
      suggestion,
    )
  }
  const holder = isRecord(given) && isRecord(given['function']) ? given['function'] : given
  const path = holder === given ? 'toolChoice' : 'toolChoice.function'
  if (!isRecord(given) || !isRecord(holder)) {
    throw invalid(
      'toolChoice',
      `toolChoice must be 'auto', 'none', 'required' or { name: '…' }, not ${nameOf(given)}.`,
    )
  }
  refuseUnknownKeys(given, holder === given ? ['type', 'name'] : ['type', 'function'], 'toolChoice')
  if (holder !== given) refuseUnknownKeys(holder, ['name'], path)
  if (given['type'] !== undefined && given['type'] !== 'function') {
    throw invalid('toolChoice.type', "toolChoice.type must be 'function'.", 'function')
  }
  const { name } = holder
  if (tools.some((tool) => tool.name === name)) return { name: name as string }
  const names = tools.map((tool) => tool.name)
  const suggestion = typeof name === 'string' ? nearestName(name, names) : undefined
  throw invalid(
    `${path}.name`,
    `${path}.name is ${typeof name === 'string' ? `'${name}'` : nameOf(name)}, and ` +
      (names.length === 0 ? 'there are no tools.' : `the tools are ${quoted(names)}.`) +
      (suggestion === undefined ? '' : ` Did you mean '${suggestion}'?`),
    suggestion,
  )
}

const choices = ['auto', 'none', 'required'] as const
const functionKeys = ['name', 'description', 'parameters', 'strict'] as const
const example = 'Write { name, description, parameters }.'
