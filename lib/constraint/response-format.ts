/** The forms that an answer may be asked for in, and what is made of its text. */
import { InvalidArgumentError } from '../errors.js'
import { nearestName } from '../suggest.js'
import { gbnfExpr } from './gbnf.js'
import { alt, text, type Expr, type GrammarBuilder } from './expression.js'
import { parsePattern } from './regex.js'
import { schemaError } from './schema-error.js'
import { schemaExpr } from './schema-grammar.js'
import {
  isStandardSchema,
  readSchema,
  type Schema,
  type SchemaSource,
  type StandardSchema,
  type Validated,
} from './schema-source.js'
import { plainChar, textExpr } from './text-grammar.js'

/** JSON that fits a schema. `name`, `description` and `strict` are OpenAI's and have no effect. */
export interface JsonSchemaFormat<Source extends SchemaSource = SchemaSource> {
  type: 'json_schema'
  schema: Source
  name?: string
  description?: string
  strict?: boolean | null
}

/** The form that an answer is to have. */
export type ResponseFormat =
  | { type: 'text' }
  | { type: 'json_object' }
  | JsonSchemaFormat
  /** As OpenAI's chat completions nest it. */
  | { type: 'json_schema'; json_schema: Omit<JsonSchemaFormat, 'type'> }
  /** The whole answer matches. */
  | { type: 'regex'; pattern: string | RegExp }
  /** GBNF, whose rule `root` is the answer. */
  | { type: 'grammar'; grammar: string }
  | { type: 'choice'; choices: readonly string[] }
  /** A Zod or Standard Schema object. */
  | StandardSchema

/** What a schema makes of a value that fits it. */
export type OutputOf<Source> = Source extends StandardSchema<infer Output> ? Output : unknown

/** The type of `result.object` where a request asks for `Format`. */
export type ObjectOf<Format> =
  Format extends StandardSchema<infer Output>
    ? Output
    : Format extends { type: 'json_schema'; schema: infer Source }
      ? OutputOf<Source>
      : Format extends { type: 'json_schema'; json_schema: { schema: infer Source } }
        ? OutputOf<Source>
        : Format extends { type: 'json_object' }
          ? Record<string, unknown>
          : Format extends { type: 'choice'; choices: readonly (infer Choice)[] }
            ? Choice
            : Format extends { type: 'text' | 'regex' | 'grammar' }
              ? undefined
              : unknown

/** A form of answers: what they may be, and the value of one. */
export interface AnswerFormat {
  /** Says what it is, so that equal ones are known to be. */
  key: unknown
  expr: (builder: GrammarBuilder) => Expr
  /** Absent where the text itself is all there is. */
  parse?: (text: string) => Validated
}

/**
 * Checks a form; undefined for plain text.
 *
 * @throws InvalidArgumentError, SchemaError
 */
export function readResponseFormat(given: unknown): AnswerFormat | undefined {
  if (given === undefined) return undefined
  if (isStandardSchema(given)) return jsonFormat(readSchema(given, 'responseFormat'))
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw invalid('', `must be an object such as { type: 'json_schema', schema }.`)
  }
  const format = given as Record<string, unknown>
  const { type } = format
  switch (type) {
    case 'text':
      checkKeys(format, ['type'])
      return undefined
    case 'json_object':
      checkKeys(format, ['type', 'schema'])
      // As llama.cpp and others have it.
      if (format['schema'] !== undefined) return readJsonSchema(format)
      return jsonFormat({ json: { type: 'object' } })
    case 'json_schema':
      return readJsonSchema(format)
    case 'regex':
      checkKeys(format, ['type', 'pattern'])
      return readRegex(format['pattern'])
    case 'grammar':
      checkKeys(format, ['type', 'grammar'])
      return readGrammar(format['grammar'])
    case 'choice':
      checkKeys(format, ['type', 'choices'])
      return readChoices(format['choices'])
    default:
      throw unknownType(type)
  }
}

/**
 * The same form as plain data. A schema object's own check is not in it.
 *
 * @throws InvalidArgumentError for a regular expression with flags that a text cannot have.
 */
export function formatToJson(format: ResponseFormat): ResponseFormat {
  if (isStandardSchema(format)) {
    return { type: 'json_schema', schema: readSchema(format, 'responseFormat').json }
  }
  if (format.type === 'json_schema') {
    const { schema } = 'json_schema' in format ? format.json_schema : format
    return { type: 'json_schema', schema: readSchema(schema, 'responseFormat.schema').json }
  }
  if (format.type !== 'regex' || typeof format.pattern === 'string') return format
  const { source, flags } = format.pattern
  if (!/[isv]/.test(flags)) return { type: 'regex', pattern: source }
  throw invalid(
    'pattern',
    `has the flags '${flags}', which JSON cannot carry. Write the pattern without.`,
  )
}

const typeNames = ['text', 'json_object', 'json_schema', 'regex', 'grammar', 'choice'] as const
const schemaTypes: readonly unknown[] = [
  ...['object', 'array', 'string', 'number', 'integer', 'boolean', 'null'],
]

function unknownType(type: unknown): InvalidArgumentError {
  if (schemaTypes.includes(type)) {
    const wayOut = "seems to be a JSON Schema. Write { type: 'json_schema', schema: { … } }."
    return invalid('type', wayOut, 'json_schema')
  }
  const suggestion = typeof type === 'string' ? nearestName(type, typeNames) : undefined
  const hint = suggestion === undefined ? '' : ` Did you mean '${suggestion}'?`
  return invalid(
    'type',
    `must be one of ${typeNames.map((name) => `'${name}'`).join(', ')}, not ${JSON.stringify(type)}.${hint}`,
    suggestion,
  )
}

const schemaKeys = ['schema', 'name', 'description', 'strict'] as const

function readJsonSchema(format: Record<string, unknown>): AnswerFormat {
  const nested = format['json_schema']
  if (nested === undefined) {
    checkKeys(format, ['type', ...schemaKeys])
    return jsonFormat(readSchema(format['schema'], 'responseFormat.schema'))
  }
  checkKeys(format, ['type', 'json_schema'])
  if (typeof nested !== 'object' || nested === null || isStandardSchema(nested)) {
    throw invalid('json_schema', 'must be an object { name, schema }.')
  }
  checkKeys(nested, schemaKeys, 'json_schema.')
  const { schema } = nested as { schema?: unknown }
  return jsonFormat(readSchema(schema, 'responseFormat.json_schema.schema'))
}

function jsonFormat({ json, validate }: Schema): AnswerFormat {
  return {
    key: ['json_schema', json],
    expr: (builder) => schemaExpr(json, builder),
    parse: (answer) => {
      let value: unknown
      try {
        value = JSON.parse(answer)
      } catch {
        return { error: 'The answer is not complete JSON.' }
      }
      const validated = validate?.(value) ?? { value }
      return 'error' in validated
        ? { error: `The answer does not fit the schema: ${validated.error}.` }
        : validated
    },
  }
}

function readRegex(given: unknown): AnswerFormat {
  const isRegExp = given instanceof RegExp
  const source = isRegExp ? given.source : given
  if (typeof source !== 'string' || source === '') {
    throw invalid('pattern', 'must be a regular expression, as a text or a RegExp.')
  }
  const flags = isRegExp ? given.flags : ''
  const path = 'responseFormat.pattern'
  return {
    key: ['regex', source, flags],
    expr: (builder) => {
      const { body, required, forbidden } = parsePattern(source, { flags, match: 'whole', path })
      const rules = { required: [body, ...required], forbidden, minLength: 0, maxLength: Infinity }
      const expr = textExpr(rules, plainChar, builder)
      if (!expr)
        throw schemaError(path, 'has a pattern with too many states. Take shorter repetitions.')
      return expr
    },
  }
}

function readGrammar(given: unknown): AnswerFormat {
  if (typeof given !== 'string') throw invalid('grammar', 'must be the text of a GBNF grammar.')
  return { key: ['grammar', given], expr: (builder) => gbnfExpr(given, builder) }
}

function readChoices(given: unknown): AnswerFormat {
  const isText = (choice: unknown): choice is string =>
    typeof choice === 'string' && choice !== '' && !/\p{Surrogate}/u.test(choice)
  if (!Array.isArray(given) || given.length === 0 || !given.every(isText)) {
    throw invalid('choices', 'must be a list of texts, none of them empty.')
  }
  return {
    key: ['choice', given],
    expr: () => alt(...given.map(text)),
    parse: (answer) =>
      given.includes(answer) ? { value: answer } : { error: 'The answer is none of the choices.' },
  }
}

function checkKeys(given: object, known: readonly string[], path = ''): void {
  for (const [key, value] of Object.entries(given)) {
    if (known.includes(key) || value === undefined) continue
    const suggestion = nearestName(key, known)
    throw invalid(
      path + key,
      suggestion === undefined
        ? `is not known. The keys here are ${known.join(', ')}.`
        : `is not known. Did you mean '${suggestion}'?`,
      suggestion,
    )
  }
}

function invalid(key: string, message: string, suggestion?: string): InvalidArgumentError {
  const path = key === '' ? 'responseFormat' : `responseFormat.${key}`
  return new InvalidArgumentError(`${path} ${message}`, {
    path,
    ...(suggestion !== undefined && { suggestion }),
  })
}
