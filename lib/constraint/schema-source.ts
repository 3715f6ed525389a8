/** The forms in which callers give a JSON Schema: itself, a Zod object, or a Standard Schema object. */
import { z } from 'zod'
import { InvalidArgumentError, SchemaError } from '../errors.js'

/** A JSON Schema as plain data; `true` allows everything, `false` nothing. */
export type JsonSchema = boolean | { readonly [keyword: string]: unknown }

/** What is used of the Standard Schema interface (standardschema.dev), which Zod, Valibot and ArkType have. */
export interface StandardSchema<Output = unknown> {
  readonly '~standard': {
    readonly version: 1
    readonly vendor: string
    /** The value as the schema makes it, or what is wrong with it. */
    readonly validate: (value: unknown) => StandardResult<Output> | Promise<StandardResult<Output>>
    readonly types?: { readonly input: unknown; readonly output: Output } | undefined
  }
}

/** What a Standard Schema's validation gives. */
export type StandardResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly StandardIssue[] }

/** Why a value does not fit, and where. */
export interface StandardIssue {
  readonly message: string
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined
}

/** A schema as callers give it. */
export type SchemaSource = JsonSchema | StandardSchema

/** A value that its schema accepts, with defaults and transformations applied; or why it does not. */
export type Validated = { value: unknown } | { error: string }

/** A schema, and the check of a value that its own library makes. */
export interface Schema {
  json: JsonSchema
  /** Absent for a plain JSON Schema. */
  validate?: (value: unknown) => Validated
}

/**
 * Takes a schema in any of its forms.
 *
 * @throws InvalidArgumentError for what is no schema, SchemaError for one that JSON Schema cannot express.
 */
export function readSchema(given: unknown, path: string): Schema {
  if (isStandardSchema(given)) {
    return { json: asData(toJsonSchema(given, path), path), validate: validatorOf(given) }
  }
  if (typeof given === 'boolean') return { json: given }
  if (isPlainObject(given)) return { json: asData(given, path) }
  throw new InvalidArgumentError(
    `${path} must be a JSON Schema, or a Zod or Standard Schema object.`,
    { path },
  )
}

/** Whether it is an object of a schema library. ArkType's are functions. */
export function isStandardSchema(value: unknown): value is StandardSchema {
  const isObject = (typeof value === 'object' && value !== null) || typeof value === 'function'
  return isObject && '~standard' in value
}

/** The schema of what goes into the library's own check, which then gives the output. */
function toJsonSchema(schema: StandardSchema, path: string): unknown {
  const target = 'draft-2020-12'
  const { vendor, jsonSchema } = schema['~standard'] as StandardSchema['~standard'] & {
    jsonSchema?: { input: (options: { target: string }) => unknown }
  }
  try {
    if (jsonSchema) return jsonSchema.input({ target })
    if ('_zod' in schema) {
      return z.toJSONSchema(schema as unknown as z.ZodType, { io: 'input', target })
    }
  } catch (error) {
    throw new SchemaError(
      `${path} cannot be written as JSON Schema: ${messageOf(error)} Use types that JSON has, or z.preprocess() ` +
        'and the like outside of the schema.',
      { cause: error, details: { schemaPath: '#' } },
    )
  }
  const wayOut =
    vendor === 'zod'
      ? "It seems to be of Zod 3: take Zod 4 (import 'zod/v4')"
      : "Convert it with the library's own function"
  throw new InvalidArgumentError(
    `${path} is a schema of '${vendor}', which does not say how it is written as JSON Schema. ${wayOut}, or ` +
      'give a JSON Schema.',
    { path },
  )
}

function messageOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error)
  return message.endsWith('.') ? message : `${message}.`
}

function validatorOf(schema: StandardSchema): (value: unknown) => Validated {
  return (value) => {
    const result = schema['~standard'].validate(value)
    if (result instanceof Promise) {
      result.catch(() => {})
      return { error: 'the schema checks values asynchronously, which is not supported' }
    }
    return result.issues ? { error: result.issues.map(inWords).join('; ') } : result
  }
}

function inWords({ message, path = [] }: StandardIssue): string {
  const keys = path.map((key) => String(typeof key === 'object' ? key.key : key))
  return keys.length === 0 ? message : `${keys.join('.')}: ${message}`
}

/** A copy without what JSON does not have; `$schema` says nothing to a model. */
function asData(schema: unknown, path: string): JsonSchema {
  let data: unknown
  try {
    data = JSON.parse(JSON.stringify(schema))
  } catch (error) {
    throw new InvalidArgumentError(`${path} must be plain JSON data: ${messageOf(error)}`, {
      path,
      cause: error,
    })
  }
  if (typeof data === 'boolean') return data
  const copy = data as Record<string, unknown>
  delete copy['$schema']
  return copy
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}
