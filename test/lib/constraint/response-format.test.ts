/** The forms that an answer may be asked for in: what is accepted, and what is said of the rest. */
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { GrammarBuilder } from '../../../lib/constraint/expression.js'
import { formatToJson, readResponseFormat } from '../../../lib/constraint/response-format.js'
import { InvalidArgumentError, SchemaError } from '../../../lib/errors.js'
import { matches } from './recognizer.js'

const schema = { type: 'object', properties: { a: { type: 'integer' } }, required: ['a'] }
const accepted = (format: unknown, ...texts: string[]) => {
  const builder = new GrammarBuilder()
  const grammar = builder.build(readResponseFormat(format)!.expr(builder))
  return texts.map((text) => matches(grammar, text))
}

describe('a form', () => {
  it('is none for plain text', () => {
    expect(readResponseFormat({ type: 'text' })).toBeUndefined()
    expect(readResponseFormat(undefined)).toBeUndefined()
  })

  it.each([
    ['json_schema', { type: 'json_schema', schema }],
    [
      "OpenAI's json_schema",
      { type: 'json_schema', json_schema: { name: 'x', strict: true, schema } },
    ],
    ['that of the Responses API', { type: 'json_schema', name: 'x', strict: true, schema }],
    ['json_object with a schema', { type: 'json_object', schema }],
    ['a Zod object', z.object({ a: z.int() })],
    ['json_schema with a Zod object', { type: 'json_schema', schema: z.object({ a: z.int() }) }],
  ])('may be %s', (_, format) => {
    expect(accepted(format, '{"a": 1}', '{"a":"x"}', '{}')).toEqual([true, false, false])
    expect(readResponseFormat(format)!.parse!('{"a":1}')).toEqual({ value: { a: 1 } })
    expect(readResponseFormat(format)!.parse!('{"a":')).toEqual({
      error: 'The answer is not complete JSON.',
    })
  })

  it('may be any object, a pattern, a grammar or a choice', () => {
    expect(accepted({ type: 'json_object' }, '{"x": [null]}', '[1]')).toEqual([true, false])
    expect(accepted({ type: 'regex', pattern: /\d+/ }, '12', 'a12')).toEqual([true, false])
    expect(accepted({ type: 'grammar', grammar: 'root ::= "a"' }, 'a', 'b')).toEqual([true, false])
    const choice = readResponseFormat({ type: 'choice', choices: ['yes', 'no'] })!
    expect(accepted({ type: 'choice', choices: ['yes', 'no'] }, 'yes', 'maybe')).toEqual([
      true,
      false,
    ])
    expect(choice.parse!('no')).toEqual({ value: 'no' })
    expect(choice.parse!('n')).toEqual({ error: 'The answer is none of the choices.' })
  })

  it("gives what a schema's own check makes of the value, or says why not", () => {
    const own = z.object({ n: z.int().default(3), s: z.string().transform((s) => s.length) })
    const { parse } = readResponseFormat(own.refine(({ s }) => s < 3, 'too long'))!
    expect(parse!('{"s":"ab"}')).toEqual({ value: { n: 3, s: 2 } })
    expect(parse!('{"s":"abc"}')).toEqual({
      error: 'The answer does not fit the schema: too long.',
    })
    const slow = readResponseFormat(z.object({}).refine(() => Promise.resolve(true)))!
    expect(slow.parse!('{}')).toEqual({
      error:
        'The answer does not fit the schema: the schema checks values asynchronously, which is not supported.',
    })
  })

  it('becomes plain data', () => {
    const json = { type: 'json_schema', schema: { type: 'object', properties: {} } }
    expect(formatToJson(z.object({}))).toEqual(json)
    expect(
      formatToJson({ type: 'json_schema', json_schema: { name: 'x', schema: z.object({}) } }),
    ).toEqual(json)
    expect(formatToJson({ type: 'regex', pattern: /a/u })).toEqual({ type: 'regex', pattern: 'a' })
    expect(formatToJson({ type: 'json_object' })).toEqual({ type: 'json_object' })
    expect(() => formatToJson({ type: 'regex', pattern: /a/i })).toThrow(
      "has the flags 'i', which JSON cannot carry",
    )
  })

  it.each([
    ['json', 'responseFormat', /must be an object such as \{ type: 'json_schema', schema \}/],
    [
      { type: 'json_shema', schema },
      'responseFormat.type',
      /must be one of 'text', .*Did you mean 'json_schema'\?/,
    ],
    [schema, 'responseFormat.type', /seems to be a JSON Schema\. Write \{ type: 'json_schema'/],
    [{ type: 'json_schema' }, 'responseFormat.schema', /must be a JSON Schema, or a Zod/],
    [{ type: 'json_schema', shema: {} }, 'responseFormat.shema', /Did you mean 'schema'\?/],
    [
      { type: 'json_schema', json_schema: 5 },
      'responseFormat.json_schema',
      /must be an object \{ name, schema \}/,
    ],
    [
      { type: 'json_schema', json_schema: { scema: {} } },
      'responseFormat.json_schema.scema',
      /Did you mean 'schema'\?/,
    ],
    [{ type: 'text', schema }, 'responseFormat.schema', /is not known\. The keys here are type\./],
    [{ type: 'regex' }, 'responseFormat.pattern', /must be a regular expression/],
    [
      { type: 'grammar', grammar: 5 },
      'responseFormat.grammar',
      /must be the text of a GBNF grammar/,
    ],
    [
      { type: 'choice', choices: [] },
      'responseFormat.choices',
      /must be a list of texts, none of them empty/,
    ],
    [{ type: 'choice', choices: ['a', ''] }, 'responseFormat.choices', /none of them empty/],
  ])('is refused: %j', (format, path, message) => {
    expect(() => readResponseFormat(format)).toThrow(InvalidArgumentError)
    expect(() => readResponseFormat(format)).toThrow(message)
    expect(() => readResponseFormat(format)).toThrow(expect.objectContaining({ path }) as Error)
  })

  it('is refused where JSON cannot say what a type is', () => {
    expect(() => readResponseFormat(z.object({ a: z.bigint() }))).toThrow(SchemaError)
    expect(() => readResponseFormat(z.object({ a: z.bigint() }))).toThrow(
      /cannot be written as JSON Schema/,
    )
  })
})
