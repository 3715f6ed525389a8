/**
 * What a JSON Schema says of a value, with its references resolved and its conjunctions merged: `$ref`,
 * `allOf` and keywords beside each other are one set of facts; what may be so or so stays a choice.
 */
import { nearestName } from '../suggest.js'
import type { Bound } from './numbers.js'
import { below, schemaError } from './schema-error.js'
import type { JsonSchema } from './schema-source.js'

export const jsonTypes = [
  ...(['null', 'boolean', 'integer', 'number'] as const),
  ...(['string', 'array', 'object'] as const),
]
export type JsonType = (typeof jsonTypes)[number]

/** A schema and its place. */
export interface Located {
  schema: JsonSchema
  path: string
}

/** Schemas that a value must all fit. */
export type Conjunction = readonly Located[]

/** One of several must fit; of `oneOf`, exactly one. */
export interface SchemaChoice {
  branches: Conjunction[]
  isExclusive: boolean
  path: string
}

/** A pattern or format of strings. */
export interface StringRule {
  value: string
  path: string
}

export interface Facts {
  /** Of the first schema, for messages. */
  path: string
  /** It is the schema `false`, or merged to nothing. */
  isNever?: string
  types?: ReadonlySet<JsonType>
  values?: readonly unknown[]
  min?: Bound
  max?: Bound
  multiples: StringRule[]
  minLength: number
  maxLength: number
  patterns: StringRule[]
  formats: StringRule[]
  properties: ReadonlyMap<string, Conjunction>
  required: ReadonlySet<string>
  /** Of names that are not in `properties`; empty where nothing is said. */
  additional: Conjunction
  names: Conjunction
  minProperties: number
  maxProperties: number
  prefix: readonly Conjunction[]
  items: Conjunction
  minItems: number | undefined
  maxItems: number
  choices: SchemaChoice[]
}

export function noFacts(path: string): Facts {
  return {
    path,
    multiples: [],
    minLength: 0,
    maxLength: Infinity,
    patterns: [],
    formats: [],
    properties: new Map(),
    required: new Set(),
    additional: [],
    names: [],
    minProperties: 0,
    maxProperties: Infinity,
    prefix: [],
    items: [],
    minItems: undefined,
    maxItems: Infinity,
    choices: [],
  }
}

/** Reads the facts of schemas of one document. */
export class SchemaReader {
  readonly #root: JsonSchema

  constructor(root: JsonSchema) {
    this.#root = root
  }

  /** The facts that all of the schemas say together. */
  facts(schemas: Conjunction): Facts {
    let facts = noFacts(schemas[0]?.path ?? '#')
    const seen = new Set<string>()
    const waiting = [...schemas]
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      // A schema that is met again, as its own part, says nothing new.
      if (seen.has(next.path)) continue
      seen.add(next.path)
      facts = merge(facts, this.#own(next, waiting))
    }
    return facts
  }

  /** Facts of one schema; those that must hold besides are added to `more`. */
  #own({ schema, path }: Located, more: Located[]): Facts {
    const facts = noFacts(path)
    if (schema === true) return facts
    if (schema === false) return { ...facts, isNever: 'is false, which nothing fits.' }
    if (!isObject(schema)) {
      throw schemaError(path, 'must be an object of keywords, true or false.')
    }
    const keywords = new Keywords(schema, path)
    const reference = keywords.reference()
    if (reference !== undefined) {
      const target = reference.replace(/(?<=.)\/$/, '')
      more.push({ schema: this.#resolve(target, below(path, '$ref')), path: target })
    }
    more.push(...keywords.list('allOf'))
    return keywords.facts(facts)
  }

  #resolve(reference: string, path: string): JsonSchema {
    if (!/^#(\/|$)/.test(reference)) {
      throw schemaError(
        path,
        `refers to '${reference}'. Only places in the schema itself are known, as '#/$defs/name': put what it ` +
          'refers to under $defs.',
      )
    }
    let place: unknown = this.#root
    for (const key of reference.split('/').slice(1)) {
      const name = decode(key).replaceAll('~1', '/').replaceAll('~0', '~')
      const has = typeof place === 'object' && place !== null && Object.hasOwn(place, name)
      if (!has) throw schemaError(path, `refers to '${reference}', which the schema does not have.`)
      place = (place as Record<string, unknown>)[name]
    }
    return place as JsonSchema
  }
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/** The keywords of one schema, each checked. */
class Keywords {
  readonly #schema: Record<string, unknown>
  readonly #path: string

  constructor(schema: Record<string, unknown>, path: string) {
    this.#schema = schema
    this.#path = path
    for (const name of Object.keys(schema)) this.#check(name)
  }

  #check(name: string): void {
    const value = this.#schema[name]
    if (supported.includes(name) || annotations.includes(name) || name.startsWith('x-')) return
    const path = below(this.#path, name)
    const harmless = Object.hasOwn(withoutEffect, name) ? withoutEffect[name] : undefined
    if (harmless !== undefined && JSON.stringify(value) === harmless) return
    const wayOut = Object.hasOwn(unsupported, name) ? unsupported[name] : undefined
    if (wayOut !== undefined) {
      throw schemaError(
        path,
        `cannot be guaranteed while an answer is written: leave out ${name}${wayOut}, or check it afterwards.`,
      )
    }
    const suggestion = nearestName(name, [...supported, ...Object.keys(unsupported)])
    throw schemaError(
      path,
      `is not a keyword that is known. ${suggestion === undefined ? `Leave out ${name}` : `Did you mean '${suggestion}'?`}`.replace(
        /(?<![.?])$/,
        '.',
      ),
    )
  }

  reference(): string | undefined {
    return this.#schema['$ref'] === undefined ? undefined : this.#string('$ref')
  }

  list(name: string): Located[] {
    const value = this.#schema[name]
    if (value === undefined) return []
    const path = below(this.#path, name)
    if (!Array.isArray(value) || value.length === 0) {
      throw schemaError(path, 'must be a list of schemas that is not empty.')
    }
    return value.map((schema: JsonSchema, index) => ({ schema, path: below(path, index) }))
  }

  facts(facts: Facts): Facts {
    this.#readValues(facts)
    this.#readNumbers(facts)
    this.#readStrings(facts)
    this.#readObjects(facts)
    this.#readArrays(facts)
    for (const name of ['anyOf', 'oneOf']) {
      const branches = this.list(name).map((branch) => [branch])
      const path = below(this.#path, name)
      if (branches.length > 0) facts.choices.push({ branches, isExclusive: name === 'oneOf', path })
    }
    return facts
  }

  #readValues(facts: Facts): void {
    const { type, enum: values, nullable } = this.#schema
    if (type !== undefined) {
      const names: unknown[] = Array.isArray(type) ? type : [type]
      const types = names.map((name) => this.#type(name))
      facts.types = new Set(nullable === true ? [...types, 'null' as const] : types)
    }
    if (values !== undefined) {
      const path = below(this.#path, 'enum')
      if (!Array.isArray(values)) throw schemaError(path, 'must be a list of values.')
      facts.values = values
    }
    if ('const' in this.#schema) {
      const { const: value } = this.#schema
      facts.values = facts.values ? facts.values.filter((one) => isSame(one, value)) : [value]
    }
  }

  #type(name: unknown): JsonType {
    const known = jsonTypes.find((type) => type === name)
    if (known) return known
    const suggestion = typeof name === 'string' ? nearestName(name, jsonTypes) : undefined
    throw schemaError(
      below(this.#path, 'type'),
      `is ${JSON.stringify(name)}, which is no type of JSON. ` +
        (suggestion ? `Did you mean '${suggestion}'?` : `They are ${jsonTypes.join(', ')}.`),
    )
  }

  #readNumbers(facts: Facts): void {
    for (const [side, inclusive, exclusive] of [
      ['min', 'minimum', 'exclusiveMinimum'],
      ['max', 'maximum', 'exclusiveMaximum'],
    ] as const) {
      // In draft 4 and OpenAPI 3.0, the second says how the first is meant.
      const isFlag = typeof this.#schema[exclusive] === 'boolean'
      const bounds = [
        this.#bound(inclusive, isFlag && this.#schema[exclusive] === true),
        isFlag ? undefined : this.#bound(exclusive, true),
      ]
      for (const bound of bounds) setTighter(facts, side, bound)
    }
    const step = this.#number('multipleOf')
    if (step !== undefined) {
      facts.multiples.push({ value: String(step), path: below(this.#path, 'multipleOf') })
    }
  }

  #bound(name: string, exclusive: boolean): Bound | undefined {
    const value = this.#number(name)
    return value === undefined ? undefined : { value, exclusive }
  }

  #readStrings(facts: Facts): void {
    facts.minLength = this.#count('minLength') ?? 0
    facts.maxLength = this.#count('maxLength') ?? Infinity
    for (const [list, name] of [
      [facts.patterns, 'pattern'],
      [facts.formats, 'format'],
    ] as const) {
      if (this.#schema[name] === undefined) continue
      list.push({ value: this.#string(name), path: below(this.#path, name) })
    }
  }

  #readObjects(facts: Facts): void {
    const { properties = {}, required = [], additionalProperties, propertyNames } = this.#schema
    const path = below(this.#path, 'properties')
    if (typeof properties !== 'object' || properties === null || Array.isArray(properties)) {
      throw schemaError(path, 'must be an object of schemas.')
    }
    facts.properties = new Map(
      Object.entries(properties).map(([name, schema]: [string, JsonSchema]) => [
        name,
        [{ schema, path: below(path, name) }],
      ]),
    )
    if (!Array.isArray(required) || required.some((name) => typeof name !== 'string')) {
      throw schemaError(below(this.#path, 'required'), 'must be a list of names.')
    }
    facts.required = new Set(required as string[])
    if (additionalProperties !== undefined) {
      facts.additional = [this.#located('additionalProperties', additionalProperties)]
    }
    if (propertyNames !== undefined) facts.names = [this.#located('propertyNames', propertyNames)]
    facts.minProperties = this.#count('minProperties') ?? 0
    facts.maxProperties = this.#count('maxProperties') ?? Infinity
  }

  #readArrays(facts: Facts): void {
    const { items, additionalItems } = this.#schema
    // Up to draft 2019, a list of items was what prefixItems is.
    const listName = Array.isArray(items) ? 'items' : 'prefixItems'
    const restName = Array.isArray(items) ? 'additionalItems' : 'items'
    const rest = Array.isArray(items) ? additionalItems : items
    facts.prefix = this.list(listName).map((item) => [item])
    if (rest !== undefined) facts.items = [this.#located(restName, rest)]
    facts.minItems = this.#count('minItems')
    facts.maxItems = this.#count('maxItems') ?? Infinity
  }

  #located(name: string, schema: unknown): Located {
    return { schema: schema as JsonSchema, path: below(this.#path, name) }
  }

  #string(name: string): string {
    const value = this.#schema[name]
    if (typeof value === 'string') return value
    throw schemaError(below(this.#path, name), 'must be a text.')
  }

  #number(name: string): number | undefined {
    const value = this.#schema[name]
    if (value === undefined || typeof value === 'number') return value
    throw schemaError(below(this.#path, name), 'must be a number.')
  }

  #count(name: string): number | undefined {
    const value = this.#number(name)
    if (value === undefined || (Number.isSafeInteger(value) && value >= 0)) return value
    throw schemaError(below(this.#path, name), `must be a whole number from 0 on, not ${value}.`)
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** What both say. */
export function merge(a: Facts, b: Facts): Facts {
  const merged: Facts = {
    ...a,
    multiples: [...a.multiples, ...b.multiples],
    minLength: Math.max(a.minLength, b.minLength),
    maxLength: Math.min(a.maxLength, b.maxLength),
    patterns: [...a.patterns, ...b.patterns],
    formats: [...a.formats, ...b.formats],
    properties: mergeProperties(a, b),
    required: new Set([...a.required, ...b.required]),
    additional: [...a.additional, ...b.additional],
    names: [...a.names, ...b.names],
    minProperties: Math.max(a.minProperties, b.minProperties),
    maxProperties: Math.min(a.maxProperties, b.maxProperties),
    ...mergeItems(a, b),
    maxItems: Math.min(a.maxItems, b.maxItems),
    choices: [...a.choices, ...b.choices],
  }
  const isNever = a.isNever ?? b.isNever
  if (isNever !== undefined) merged.isNever = isNever
  const types = mergeTypes(a.types, b.types)
  if (types) merged.types = types
  const values = b.values
    ? (a.values ?? b.values).filter((value) => has(b.values, value))
    : a.values
  if (values) merged.values = values
  setTighter(merged, 'min', b.min)
  setTighter(merged, 'max', b.max)
  return merged
}

function setTighter(facts: Facts, side: 'min' | 'max', bound: Bound | undefined): void {
  if (!bound) return
  const known = facts[side]
  const distance = known
    ? side === 'min'
      ? bound.value - known.value
      : known.value - bound.value
    : 1
  if (distance > 0 || (distance === 0 && bound.exclusive)) facts[side] = bound
}

function mergeTypes(a: Facts['types'], b: Facts['types']): Facts['types'] {
  if (!a || !b) return a ?? b
  const fits = (type: JsonType, types: ReadonlySet<JsonType>) =>
    types.has(type) || (type === 'integer' && types.has('number'))
  return new Set([...a, ...b].filter((type) => fits(type, a) && fits(type, b)))
}

/** A name that only one side lists must also be what the other says of names that it does not list. */
function mergeProperties(a: Facts, b: Facts): Facts['properties'] {
  const names = new Set([...a.properties.keys(), ...b.properties.keys()])
  const of = (facts: Facts, name: string) => facts.properties.get(name) ?? facts.additional
  return new Map([...names].map((name) => [name, [...of(a, name), ...of(b, name)]]))
}

function mergeItems(a: Facts, b: Facts): Pick<Facts, 'prefix' | 'items' | 'minItems'> {
  const length = Math.max(a.prefix.length, b.prefix.length)
  const minItems =
    a.minItems === undefined || b.minItems === undefined
      ? (a.minItems ?? b.minItems)
      : Math.max(a.minItems, b.minItems)
  return {
    prefix: Array.from({ length }, (_, i) => [
      ...(a.prefix[i] ?? a.items),
      ...(b.prefix[i] ?? b.items),
    ]),
    items: [...a.items, ...b.items],
    minItems,
  }
}

/** Whether two values of JSON are the same, whatever the order of their names. */
export function isSame(a: unknown, b: unknown): boolean {
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return a === b
  if (Array.isArray(a) !== Array.isArray(b)) return false
  const [left, right] = [a as Record<string, unknown>, b as Record<string, unknown>]
  const keys = Object.keys(left)
  return (
    keys.length === Object.keys(right).length &&
    keys.every((key) => Object.hasOwn(right, key) && isSame(left[key], right[key]))
  )
}

function has(values: readonly unknown[] | undefined, value: unknown): boolean {
  return values?.some((one) => isSame(one, value)) ?? true
}

const supported: readonly string[] = [
  ...['type', 'enum', 'const', 'nullable', '$ref', '$defs', 'definitions'],
  ...['allOf', 'anyOf', 'oneOf'],
  ...['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf'],
  ...['minLength', 'maxLength', 'pattern', 'format'],
  ...['properties', 'required', 'additionalProperties', 'propertyNames'],
  ...['minProperties', 'maxProperties'],
  ...['items', 'prefixItems', 'additionalItems', 'minItems', 'maxItems'],
]

/** Say something to people or other programs, and nothing of values. */
const annotations: readonly string[] = [
  ...['$schema', '$id', 'id', '$comment', '$anchor', '$vocabulary', 'title', 'description'],
  ...['default', 'example', 'examples', 'deprecated', 'readOnly', 'writeOnly'],
  ...['contentEncoding', 'contentMediaType', 'contentSchema', 'discriminator'],
  ...['externalDocs', 'xml', 'errorMessage'],
]

/** The values with which a keyword asks for nothing that is not so anyway. */
const withoutEffect: Readonly<Record<string, string>> = {
  uniqueItems: 'false',
  unevaluatedProperties: 'false',
  unevaluatedItems: 'false',
}

/** The way out for each is what stands behind its name. */
const unsupported: Readonly<Record<string, string>> = {
  uniqueItems: ', or list the arrays that may be as an enum',
  not: ' and say what may be instead',
  if: ' and write the cases as anyOf',
  then: ' and write the cases as anyOf',
  else: ' and write the cases as anyOf',
  contains: ' and describe all items with items',
  minContains: ' and describe all items with items',
  maxContains: ' and describe all items with items',
  patternProperties: ' and list the names under properties, or describe them with propertyNames',
  dependentRequired: ' and write the cases as anyOf',
  dependentSchemas: ' and write the cases as anyOf',
  dependencies: ' and write the cases as anyOf',
  unevaluatedProperties: ' and take additionalProperties',
  unevaluatedItems: ' and take items',
  $dynamicRef: ' and take $ref',
  $recursiveRef: ' and take $ref',
}
