/** Which of the values that a schema lists its other keywords allow, and which schemas share no value. */
import { formatPattern } from './formats.js'
import {
  isSame,
  jsonTypes,
  merge,
  type Conjunction,
  type Facts,
  type JsonType,
  type SchemaReader,
} from './schema-facts.js'

/** The types that the facts leave, where none is named those that their keywords are about. */
export function typesOf(facts: Facts): JsonType[] {
  if (facts.types) {
    const { types } = facts
    return jsonTypes.filter(
      (type) => types.has(type) && !(type === 'integer' && types.has('number')),
    )
  }
  const implied = new Set<JsonType>()
  if (facts.min ?? facts.max ?? facts.multiples[0]) implied.add('number')
  if (facts.minLength > 0 || facts.maxLength < Infinity) implied.add('string')
  if (facts.patterns.length + facts.formats.length > 0) implied.add('string')
  if (hasItems(facts)) implied.add('array')
  if (hasProperties(facts)) implied.add('object')
  const all = jsonTypes.filter((type) => type !== 'integer')
  return implied.size === 0 ? all : all.filter((type) => implied.has(type))
}

function hasItems({ prefix, items, minItems, maxItems }: Facts): boolean {
  return prefix.length + items.length > 0 || minItems !== undefined || maxItems < Infinity
}

function hasProperties(facts: Facts): boolean {
  const { properties, required, additional, names, minProperties, maxProperties } = facts
  const numRules = properties.size + required.size + additional.length + names.length
  return numRules > 0 || minProperties > 0 || maxProperties < Infinity
}

/** Whether a value fits; types that are not named are not implied here. */
export function accepts(reader: SchemaReader, facts: Facts, value: unknown): boolean {
  if (facts.isNever !== undefined) return false
  if (facts.types && !isOfTypes(value, facts.types)) return false
  if (facts.values && !facts.values.some((one) => isSame(one, value))) return false
  for (const { branches, isExclusive } of facts.choices) {
    const fitting = branches.filter((branch) => accepts(reader, reader.facts(branch), value))
    if (isExclusive ? fitting.length !== 1 : fitting.length === 0) return false
  }
  if (typeof value === 'number') return acceptsNumber(facts, value)
  if (typeof value === 'string') return acceptsString(facts, value)
  if (Array.isArray(value)) return acceptsArray(reader, facts, value)
  if (typeof value === 'object' && value !== null) return acceptsObject(reader, facts, value)
  return true
}

export function isOfTypes(value: unknown, types: ReadonlySet<JsonType>): boolean {
  if (value === null) return types.has('null')
  if (Array.isArray(value)) return types.has('array')
  if (typeof value === 'number') {
    return types.has('number') || (types.has('integer') && Number.isInteger(value))
  }
  return types.has(typeof value as JsonType)
}

function acceptsNumber({ min, max, multiples }: Facts, value: number): boolean {
  if (min && (value < min.value || (min.exclusive && value === min.value))) return false
  if (max && (value > max.value || (max.exclusive && value === max.value))) return false
  return multiples.every(({ value: step }) => Number.isInteger(value / Number(step)))
}

function acceptsString(facts: Facts, value: string): boolean {
  const length = Array.from(value).length
  if (length < facts.minLength || length > facts.maxLength) return false
  if (!facts.patterns.every(({ value: pattern }) => new RegExp(pattern, 'u').test(value)))
    return false
  return facts.formats.every(({ value: format }) => {
    const pattern = formatPattern(format)
    return pattern === undefined || new RegExp(`^(?:${pattern})$`, 'u').test(value)
  })
}

function acceptsArray(reader: SchemaReader, facts: Facts, value: readonly unknown[]): boolean {
  if (value.length < (facts.minItems ?? 0) || value.length > facts.maxItems) return false
  return value.every((item, index) =>
    accepts(reader, reader.facts(facts.prefix[index] ?? facts.items), item),
  )
}

function acceptsObject(reader: SchemaReader, facts: Facts, value: object): boolean {
  const entries = Object.entries(value)
  if (entries.length < facts.minProperties || entries.length > facts.maxProperties) return false
  if ([...facts.required].some((name) => !Object.hasOwn(value, name))) return false
  const names = reader.facts(facts.names)
  return entries.every(
    ([name, entry]) =>
      accepts(reader, names, name) &&
      accepts(reader, reader.facts(facts.properties.get(name) ?? facts.additional), entry),
  )
}

/** Deeper than that, two schemas are taken to share a value. */
const MAX_DEPTH = 4

/** Whether it can be seen that no value fits both. */
export function areDisjoint(reader: SchemaReader, a: Facts, b: Facts, depth = 0): boolean {
  const both = merge(a, b)
  if (both.isNever !== undefined || both.types?.size === 0) return true
  for (const [one, other] of [
    [a, b],
    [b, a],
  ] as const) {
    if (one.values?.every((value) => !accepts(reader, other, value))) return true
  }
  if (isEmptyRange(both)) return true
  const isObject = both.types?.size === 1 && both.types.has('object')
  if (!isObject || depth >= MAX_DEPTH) return false
  return [...both.required].some((name) => {
    const [left, right] = [of(a, name), of(b, name)]
    return areDisjoint(reader, reader.facts(left), reader.facts(right), depth + 1)
  })
}

function of(facts: Facts, name: string): Conjunction {
  return facts.properties.get(name) ?? facts.additional
}

function isEmptyRange({ types, min, max, minLength, maxLength }: Facts): boolean {
  const are = (...wanted: JsonType[]) => types && [...types].every((type) => wanted.includes(type))
  if (are('number', 'integer') && min && max) {
    return min.value > max.value || (min.value === max.value && (min.exclusive || max.exclusive))
  }
  return are('string') === true && minLength > maxLength
}
