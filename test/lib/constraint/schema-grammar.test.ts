/**
 * JSON Schema to grammars. Two judges that know nothing of the code: a recogniser of grammars, and ajv. What a
 * grammar gives must be valid, what is valid must be matched, and what is not must not.
 */
import { Ajv2020 } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import type { Grammar } from '../../../lib/constraint/grammar.js'
import { schemaGrammar } from '../../../lib/constraint/schema-grammar.js'
import type { JsonSchema } from '../../../lib/constraint/schema-source.js'
import { SchemaError } from '../../../lib/errors.js'
import { matches, randomNumbers, sample } from './recognizer.js'

const ajv = new Ajv2020({ strict: false, multipleOfPrecision: 2 })
addFormats.default(ajv)

/** Texts of a grammar, each parsed and judged. */
function checkSamples(schema: JsonSchema, grammar: Grammar, count: number, seed = 1): void {
  const validate = ajv.compile(schema)
  const random = randomNumbers(seed)
  for (let i = 0; i < count; ++i) {
    const text = sample(grammar, random)
    const isValid = validate(JSON.parse(text))
    expect(
      isValid,
      `${text} for ${JSON.stringify(schema)}: ${JSON.stringify(validate.errors)}`,
    ).toBe(true)
  }
}

const node = {
  type: 'object',
  properties: { v: { type: 'integer' }, next: { $ref: '#/$defs/node' } },
  required: ['v'],
}

/** A schema, values that fit it, and values that do not. */
const cases: [string, JsonSchema, unknown[], unknown[]][] = [
  [
    'anything',
    {},
    [null, 1, -0.5, 'a"\\\n\u0001é😀', [], [1, [2]], {}, { a: { b: [] } }, true, 1e21, 5e-324],
    [],
  ],
  ['true', true, [0, 'x', {}], []],
  ['null', { type: 'null' }, [null], [0, 'null']],
  ['booleans', { type: 'boolean' }, [true, false], ['true', 0]],
  ['several types', { type: ['string', 'null', 'integer'] }, ['a', null, 7], [true, 1.5, {}]],
  ['nullable', { type: 'string', nullable: true }, ['a', null], [1]],
  ['integers', { type: 'integer' }, [0, -1, 42, 9007199254740991, -9007199254740991], [1.5, '1']],
  [
    'integers in bounds',
    { type: 'integer', minimum: -12, maximum: 345 },
    [-12, -1, 0, 9, 10, 345],
    [-13, 346, 1000],
  ],
  [
    'exclusive bounds',
    { type: 'integer', exclusiveMinimum: 0, exclusiveMaximum: 10 },
    [1, 9],
    [0, 10],
  ],
  ['bounds of draft 4', { type: 'integer', minimum: 3, exclusiveMinimum: true }, [4], [3]],
  ['numbers', { type: 'number' }, [0, -1.5, 1e21, 1.7e-9, 0.1 + 0.2], ['1', null]],
  [
    'numbers in bounds',
    { type: 'number', minimum: 0, maximum: 1 },
    [0, 1, 0.5, 0.25],
    [-0.1, 1.01, 2],
  ],
  ['cents', { type: 'number', multipleOf: 0.01, minimum: 0 }, [0, 1.5, 19.99], [0.001, -1]],
  ['whole numbers by their step', { type: 'number', multipleOf: 1 }, [3, -3], [3.5]],
  ['strings', { type: 'string' }, ['', 'a', '"\\/\b\f\n\r\t\u0000\u001f', '日本', '😀'], [1]],
  [
    'lengths',
    { type: 'string', minLength: 2, maxLength: 3 },
    ['ab', '😀😀', '"\\\n'],
    ['', 'a', 'abcd'],
  ],
  [
    'a pattern anywhere',
    { type: 'string', pattern: 'b+c' },
    ['bc', 'aabbcd', '\nbc\n'],
    ['ac', 'b'],
  ],
  [
    'an anchored pattern',
    { type: 'string', pattern: '^[a-c]{2,3}$' },
    ['ab', 'abc'],
    ['a', 'abcd', 'xab'],
  ],
  [
    'a pattern of what JSON escapes',
    { type: 'string', pattern: '^["\\\\\\n]+$' },
    ['"', '\\\n"'],
    ['a', ''],
  ],
  [
    'pattern and length',
    { type: 'string', pattern: '^[ab]*$', minLength: 3, maxLength: 4 },
    ['aba', 'bbbb'],
    ['ab', 'aaaaa', 'abc'],
  ],
  [
    'two patterns',
    { allOf: [{ pattern: '^a' }, { type: 'string', pattern: 'z$' }] },
    ['az', 'abz'],
    ['a', 'z', 'za'],
  ],
  [
    'a pattern with lookaheads',
    { type: 'string', pattern: '^(?!ab)(?=.*d)[a-d]+$' },
    ['d', 'acd', 'ad'],
    ['abd', 'ac', ''],
  ],
  [
    'an enum',
    { enum: ['red', 1, null, { a: [1, 'x'] }] },
    ['red', 1, null, { a: [1, 'x'] }],
    ['blue', 2, { a: [1] }],
  ],
  [
    'an enum within a type',
    { type: 'string', enum: ['a', 1, 'bb'], maxLength: 1 },
    ['a'],
    [1, 'bb'],
  ],
  ['a const', { const: { k: 'v' } }, [{ k: 'v' }], [{ k: 'w' }, {}]],
  [
    'an object',
    {
      type: 'object',
      properties: { a: { type: 'integer' }, b: {}, c: { type: 'null' } },
      required: ['a', 'c'],
    },
    [
      { a: 1, c: null },
      { a: 1, b: 'x', c: null },
    ],
    [{}, { a: 1 }, { c: null }, { a: 'x', c: null }],
  ],
  [
    'only optional properties',
    {
      type: 'object',
      properties: { a: { const: 1 }, b: { const: 2 } },
      additionalProperties: false,
    },
    [{}, { a: 1 }, { b: 2 }, { a: 1, b: 2 }],
    [{ c: 3 }, { a: 2 }],
  ],
  [
    'additional properties',
    { type: 'object', properties: { a: { const: 1 } }, additionalProperties: { type: 'boolean' } },
    [{}, { a: 1 }, { b: true }, { a: 1, bb: false, '': true, 'a"': true, ab: true }],
    [{ a: true }, { b: 1 }],
  ],
  ['any object', { type: 'object' }, [{}, { a: 1, b: { c: [] } }], [[], 1]],
  [
    'a map',
    { type: 'object', additionalProperties: { type: 'integer' } },
    [{}, { x: 1, y: 2 }],
    [{ x: 'a' }],
  ],
  [
    'names of a map',
    {
      type: 'object',
      propertyNames: { pattern: '^[a-z]{2}$' },
      additionalProperties: { type: 'integer' },
    },
    [{}, { de: 1, en: 2 }],
    [{ d: 1 }, { DE: 1 }],
  ],
  [
    'required names that are not listed',
    { type: 'object', required: ['x'], additionalProperties: { type: 'integer' } },
    [{ x: 1 }, { x: 1, y: 2 }],
    [{}, { y: 2 }, { x: 'a' }],
  ],
  [
    'at least one property',
    { type: 'object', minProperties: 1, maxProperties: 2 },
    [{ a: 1 }, { a: 1, b: 2 }],
    [{}, { a: 1, b: 2, c: 3 }],
  ],
  ['a list', { type: 'array', items: { type: 'integer' } }, [[], [1], [1, 2, 3]], [['a'], 1]],
  [
    'a list of some length',
    { type: 'array', items: { const: 0 }, minItems: 2, maxItems: 3 },
    [
      [0, 0],
      [0, 0, 0],
    ],
    [[0], [0, 0, 0, 0]],
  ],
  ['an empty list', { type: 'array', maxItems: 0 }, [[]], [[1]]],
  [
    'a tuple',
    { prefixItems: [{ type: 'string' }, { type: 'integer' }], minItems: 1, items: false },
    [['a'], ['a', 1]],
    [[], [1], ['a', 1, 2]],
  ],
  [
    'a tuple with more',
    { prefixItems: [{ const: 'a' }], items: { const: 0 }, minItems: 0 },
    [[], ['a'], ['a', 0, 0]],
    [[0]],
  ],
  [
    'anyOf',
    { anyOf: [{ type: 'integer' }, { type: 'string', maxLength: 1 }] },
    [1, 'a'],
    ['ab', 1.5],
  ],
  [
    'anyOf beside properties',
    {
      type: 'object',
      properties: { k: { type: 'string' } },
      required: ['k'],
      anyOf: [
        { properties: { a: { const: 1 } }, required: ['a'] },
        { properties: { b: { const: 2 } }, required: ['b'] },
      ],
    },
    [
      { k: 'x', a: 1 },
      { k: 'x', b: 2 },
    ],
    [{ k: 'x' }, { a: 1 }],
  ],
  [
    'oneOf of branches that exclude each other',
    {
      oneOf: [
        {
          type: 'object',
          properties: { t: { const: 'a' }, x: { type: 'integer' } },
          required: ['t'],
        },
        { type: 'object', properties: { t: { const: 'b' } }, required: ['t'] },
        { type: 'null' },
      ],
    },
    [{ t: 'a' }, { t: 'a', x: 1 }, { t: 'b' }, null],
    [{ t: 'c' }, {}],
  ],
  [
    'oneOf of ranges',
    {
      oneOf: [
        { type: 'integer', maximum: 3 },
        { type: 'integer', minimum: 5 },
      ],
    },
    [3, 5],
    [4],
  ],
  [
    'allOf',
    {
      allOf: [
        { type: 'object', properties: { a: { type: 'integer', minimum: 3 } }, required: ['a'] },
        { properties: { a: { maximum: 4 }, b: { type: 'null' } }, required: ['b'] },
      ],
    },
    [
      { a: 3, b: null },
      { a: 4, b: null },
    ],
    [{ a: 5, b: null }, { a: 3 }],
  ],
  [
    'allOf of types',
    { allOf: [{ type: ['number', 'string'] }, { type: ['integer', 'null'] }] },
    [1],
    [1.5, 'a', null],
  ],
  [
    'references',
    { $defs: { p: { type: 'integer' } }, type: 'array', items: { $ref: '#/$defs/p', minimum: 2 } },
    [[], [2]],
    [[1], ['a']],
  ],
  [
    'a reference by an escaped name',
    { definitions: { 'a/b ~': { const: 1 } }, $ref: '#/definitions/a~1b%20~0' },
    [1],
    [2],
  ],
  [
    'recursion',
    { $defs: { node }, $ref: '#/$defs/node' },
    [{ v: 1 }, { v: 1, next: { v: 2, next: { v: 3 } } }],
    [{ next: { v: 1 } }, { v: 1, next: {} }],
  ],
  [
    'recursion to the root',
    { type: 'object', properties: { c: { type: 'array', items: { $ref: '#' } } }, required: ['c'] },
    [{ c: [] }, { c: [{ c: [] }, { c: [] }] }],
    [{}, { c: [{}] }],
  ],
  [
    'an optional property that may not be',
    { type: 'object', properties: { a: false, b: { const: 1 } } },
    [{}, { b: 1 }],
    [{ a: 1 }],
  ],
  [
    'dates',
    { type: 'string', format: 'date' },
    ['2024-02-29', '1999-12-31'],
    ['2023-02-29', '1999-13-01', 'x'],
  ],
  [
    'times',
    { type: 'string', format: 'time' },
    ['23:59:59Z', '00:00:00.5+01:30'],
    ['24:00:00Z', '12:00'],
  ],
  [
    'dates with times',
    { type: 'string', format: 'date-time' },
    ['2024-02-29T01:02:03Z'],
    ['2024-02-29'],
  ],
  [
    'durations',
    { type: 'string', format: 'duration' },
    ['P1Y2M3DT4H', 'PT5S', 'P2W'],
    ['P', 'PT', '1D'],
  ],
  [
    'addresses of e-mail',
    { type: 'string', format: 'email' },
    ['a.b+c@example.co.uk'],
    ['a@', '.a@b.de', 'a..b@c.de'],
  ],
  [
    'names of hosts',
    { type: 'string', format: 'hostname' },
    ['localhost', 'a-b.example.com'],
    ['-a', 'a..b'],
  ],
  [
    'addresses of IP',
    { type: 'string', format: 'ipv4' },
    ['0.0.0.0', '255.10.1.99'],
    ['256.1.1.1', '01.1.1.1'],
  ],
  [
    'addresses of IPv6',
    { type: 'string', format: 'ipv6' },
    ['::', '::1', '1:2:3:4:5:6:7:8', 'fe80::a:b'],
    [':::', '1:2'],
  ],
  [
    'URIs',
    { type: 'string', format: 'uri' },
    ['https://example.com/a?b=c#d', 'mailto:a@b.de'],
    ['example.com', 'https://'],
  ],
  [
    'UUIDs',
    { type: 'string', format: 'uuid' },
    ['6ba7b810-9dad-11d1-80b4-00c04fd430c8'],
    ['6ba7b810'],
  ],
]

describe.each(cases)('a schema of %s', (_, schema, valid, invalid) => {
  const grammar = schemaGrammar(schema)

  it('gives only what fits it', () => {
    if (typeof schema === 'object' && typeof schema['exclusiveMinimum'] === 'boolean') return
    checkSamples(schema, grammar, 40)
  })

  it('matches what fits it, and nothing else', () => {
    for (const value of valid)
      expect(matches(grammar, JSON.stringify(value)), JSON.stringify(value)).toBe(true)
    for (const value of invalid)
      expect(matches(grammar, JSON.stringify(value)), JSON.stringify(value)).toBe(false)
  })
})

it('allows one space behind colons and commas, and no other', () => {
  const grammar = schemaGrammar({
    type: 'object',
    properties: { a: { type: 'array', items: {} }, b: { const: [1, { c: 2 }] } },
  })
  expect(matches(grammar, '{"a": [1, 2,3], "b":[1, {"c": 2}]}')).toBe(true)
  for (const text of ['{ }', '{"a" :[]}', '{"a":  []}', '{"a":[ ]}', '{"a":[]}\n', '{"a":[1 ]}']) {
    expect(matches(grammar, text), text).toBe(false)
  }
})

it('keeps the order of the schema', () => {
  const grammar = schemaGrammar({ type: 'object', properties: { b: {}, a: {} } })
  expect(matches(grammar, '{"b":1,"a":2}')).toBe(true)
  expect(matches(grammar, '{"a":2,"b":1}')).toBe(false)
})

it('lets nothing stand beside listed properties and items unless the schema says what', () => {
  const object = schemaGrammar({ type: 'object', properties: { a: {} } })
  expect(matches(object, '{"a":1,"b":2}')).toBe(false)
  expect(
    matches(
      schemaGrammar({ type: 'object', properties: { a: {} }, additionalProperties: true }),
      '{"a":1,"b":2}',
    ),
  ).toBe(true)
  const tuple = schemaGrammar({ type: 'array', prefixItems: [{}, {}] })
  expect(['[1]', '[1,2]', '[1,2,3]'].map((text) => matches(tuple, text))).toEqual([
    false,
    true,
    false,
  ])
})

it('infers a type from what keywords are about', () => {
  expect(matches(schemaGrammar({ minimum: 3 }), '"a"')).toBe(false)
  expect(matches(schemaGrammar({ properties: { a: {} } }), '{"a":1}')).toBe(true)
  expect(matches(schemaGrammar({ items: {}, pattern: 'a' }), '"a"')).toBe(true)
})

describe('random schemas', () => {
  /** Of any kind, a few levels deep; some of them with nothing that fits. */
  function randomSchema(random: () => number, depth = 0): Exclude<JsonSchema, boolean> {
    const pick = <T>(...list: T[]): T => list[Math.floor(random() * list.length)]!
    const maybe = <T extends object>(part: () => T): T | object => (random() < 0.5 ? part() : {})
    const inner = () => randomSchema(random, depth + 1)
    const whole = (most: number) => Math.floor(random() * most)
    const leaf = [
      () => ({
        type: 'integer',
        ...maybe(() => ({ minimum: whole(50) - 25 })),
        ...maybe(() => ({ maximum: 30 + whole(5000) })),
      }),
      () => ({
        type: 'number',
        ...maybe(() => ({ minimum: whole(1000) / 8 - 60 })),
        ...maybe(() => ({ exclusiveMaximum: 70 + random() * 100 })),
      }),
      () => ({
        type: 'string',
        ...maybe(() => ({ minLength: whole(3) })),
        ...maybe(() => ({ maxLength: 3 + whole(5) })),
      }),
      () => ({
        type: 'string',
        pattern: pick('^[a-d]+$', 'x', '^\\d{2}-\\d{2}$', '\\s$', '^(?:yes|no)$'),
      }),
      () => ({ enum: [pick('a', 'b'), pick(1, 2.5), pick(null, [1])] }),
      () => ({ type: pick('null', 'boolean') }),
      () => ({ const: pick<unknown>('c', 7, { d: [] }) }),
    ]
    const nested = [
      () => ({
        type: 'array',
        items: inner(),
        ...maybe(() => ({ minItems: whole(3) })),
        ...maybe(() => ({ maxItems: 2 + whole(3) })),
      }),
      () => {
        const names = ['p', 'q"', 'r é', 's'].slice(0, 1 + whole(4))
        const properties = Object.fromEntries(names.map((name) => [name, inner()]))
        const required = names.filter(() => random() < 0.5)
        return {
          type: 'object',
          properties,
          required,
          ...maybe(() => ({ additionalProperties: pick<JsonSchema>(false, true, inner()) })),
        }
      },
      () => ({ anyOf: [inner(), inner()] }),
      () => ({
        allOf: [
          { type: 'object', properties: { a: inner() }, required: ['a'] },
          { properties: { b: inner() } },
        ],
      }),
    ]
    return pick(...(depth < 3 ? [...leaf, ...nested, ...nested] : leaf))()
  }

  it('give only what fits them: 400 schemas', () => {
    const random = randomNumbers(7)
    for (let i = 0; i < 400; ++i) {
      const schema = randomSchema(random)
      checkSamples(schema, schemaGrammar(schema), 6, i)
    }
  })

  it('match what fits them, in the order of their properties', () => {
    const random = randomNumbers(11)
    for (let i = 0; i < 200; ++i) {
      const grammar = schemaGrammar(randomSchema(random))
      // What one text says, written the shortest way, is said by another.
      const value: unknown = JSON.parse(sample(grammar, random))
      const text = JSON.stringify(value)
      if (!/\d[eE.]/.test(text)) expect(matches(grammar, text), text).toBe(true)
    }
  })
})

describe('schemas that Zod writes', () => {
  const Category: z.ZodType = z.object({
    name: z.string().max(3),
    get children() {
      return z.array(Category).max(2)
    },
  })
  it.each([
    ['an e-mail address', z.email()],
    ['an address of IPv4', z.ipv4()],
    ['a UUID', z.uuid()],
    ['a date', z.iso.date()],
    ['a time', z.iso.datetime()],
    ['a URL', z.url()],
    ['a text that begins and ends', z.string().startsWith('ab').endsWith('z').max(6)],
    ['integers', z.int().positive().lt(1000)],
    ['a record', z.record(z.string().regex(/^[a-z]+$/), z.boolean())],
    ['a record of known names', z.record(z.enum(['a', 'b']), z.int())],
    ['a tuple', z.tuple([z.string().max(2), z.int()])],
    ['a union', z.union([z.literal('x'), z.null(), z.object({ a: z.number().min(0).max(1) })])],
    [
      'a union by a name',
      z.discriminatedUnion('t', [
        z.object({ t: z.literal('a'), n: z.int() }),
        z.object({ t: z.literal('b') }),
      ]),
    ],
    ['an intersection', z.intersection(z.object({ a: z.int() }), z.object({ b: z.boolean() }))],
    [
      'defaults and optional properties',
      z.object({ a: z.int().default(1), b: z.boolean().optional(), c: z.null().nullable() }),
    ],
    ['itself', Category],
  ])('of %s', (_, schema) => {
    const grammar = schemaGrammar(z.toJSONSchema(schema, { io: 'input' }))
    const random = randomNumbers(3)
    for (let i = 0; i < 30; ++i) {
      const text = sample(grammar, random)
      expect(schema.safeParse(JSON.parse(text)), text).toMatchObject({ success: true })
    }
  })
})

describe('a schema is refused', () => {
  it.each([
    [
      'not',
      { not: {} },
      '#/not',
      /cannot be guaranteed.*leave out not and say what may be instead, or check it afterwards/,
    ],
    [
      'uniqueItems',
      { type: 'array', uniqueItems: true },
      '#/uniqueItems',
      /list the arrays that may be as an enum/,
    ],
    ['if', { if: {}, then: {} }, '#/if', /write the cases as anyOf/],
    ['patternProperties', { patternProperties: {} }, '#/patternProperties', /propertyNames/],
    [
      'multipleOf',
      { properties: { 'a/b': { type: 'integer', multipleOf: 3 } } },
      '#/properties/a~1b/multipleOf',
      /is 3\. Only 1, 0\.1.*list the values as an enum/,
    ],
    [
      'a misspelt keyword',
      { type: 'object', requred: ['a'] },
      '#/requred',
      /Did you mean 'required'\?/,
    ],
    [
      'a type that is none',
      { type: 'strng' },
      '#/type',
      /is "strng", which is no type of JSON\. Did you mean 'string'\?/,
    ],
    [
      'a format that is not known',
      { type: 'string', format: 'iri' },
      '#/format',
      /is 'iri', which is not known.*give a pattern/,
    ],
    [
      'a reference to elsewhere',
      { $ref: 'https://example.com/x' },
      '#/$ref',
      /put what it refers to under \$defs/,
    ],
    [
      'a reference to nothing',
      { items: { $ref: '#/$defs/x' } },
      '#/items/$ref',
      /which the schema does not have/,
    ],
    [
      'a wrong value',
      { type: 'string', minLength: -1 },
      '#/minLength',
      /must be a whole number from 0 on, not -1/,
    ],
    ['a wrong list', { anyOf: [] }, '#/anyOf', /must be a list of schemas that is not empty/],
    ['no schema', { items: 5 }, '#/items', /must be an object of keywords, true or false/],
    [
      'oneOf that overlaps',
      { oneOf: [{ type: 'string' }, { type: 'string', maxLength: 3 }] },
      '#/oneOf',
      /fit both branch 0 and branch 1.*Take anyOf/,
    ],
    [
      'a count of properties',
      { properties: { a: {}, b: {} }, minProperties: 1 },
      '#/minProperties',
      /require the properties by name/,
    ],
    [
      'a backreference',
      { type: 'string', pattern: '(a)\\1' },
      '#/pattern',
      /has a backreference \(\\1 at character 4\)/,
    ],
    ['half a character', { const: '\ud800' }, '#', /half a character/],
    [
      'patterns that are too much',
      { type: 'string', pattern: '(a|b)*a(a|b){20}', maxLength: 900 },
      '#',
      /too much together/,
    ],
  ])('for %s', (_, schema, schemaPath, message) => {
    const make = () => schemaGrammar(schema)
    expect(make).toThrow(SchemaError)
    expect(make).toThrow(message)
    expect(make).toThrow(expect.objectContaining({ schemaPath, code: 'ERR_SCHEMA' }) as Error)
  })

  it.each([
    ['false', false, '#', /is false, which nothing fits/],
    [
      'types',
      { allOf: [{ type: 'string' }, { type: 'null' }] },
      '#',
      /its types exclude each other/,
    ],
    ['values', { type: 'integer', enum: ['a'] }, '#', /none of the values that it lists/],
    [
      'bounds',
      { type: 'array', items: { type: 'integer', minimum: 3, maximum: 2 }, minItems: 1 },
      '#/items',
      /no integer is within its bounds/,
    ],
    [
      'lengths',
      { type: 'string', minLength: 3, maxLength: 2 },
      '#',
      /minLength is above maxLength/,
    ],
    ['patterns', { type: 'string', pattern: '^a$', minLength: 2 }, '#', /exclude each other/],
    ['items', { type: 'array', minItems: 3, maxItems: 2 }, '#', /no list has its number of items/],
    [
      'a property',
      { type: 'object', properties: { a: {} }, required: ['b'], additionalProperties: false },
      '#/additionalProperties',
      /is false/,
    ],
    [
      'recursion',
      { type: 'object', properties: { a: { $ref: '#' } }, required: ['a'] },
      '#',
      /another one without end/,
    ],
  ])('because nothing fits its %s', (_, schema, schemaPath, message) => {
    const make = () => schemaGrammar(schema)
    expect(make).toThrow(SchemaError)
    expect(make).toThrow(message)
    expect(make).toThrow(expect.objectContaining({ schemaPath }) as Error)
  })
})
