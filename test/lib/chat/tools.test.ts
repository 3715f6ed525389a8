/** Definitions of tools and the choice among them: what is accepted, and what is said of the rest. */
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { z as z3 } from 'zod/v3'
import { readToolUse, toolsToJson } from '../../../lib/chat/tools.js'
import { InvalidArgumentError, SchemaError } from '../../../lib/errors.js'

const parameters = { type: 'object', properties: { city: { type: 'string' } } }
const f = { name: 'f', description: 'Does it.', parameters }
const g = { name: 'g' }

describe('tools', () => {
  it.each([
    ['the own form', f],
    ["OpenAI's chat form", { type: 'function', function: { ...f, strict: true } }],
    ["OpenAI's Responses form", { type: 'function', ...f, strict: null }],
  ])('are accepted in %s', (_, tool) => {
    const { tools } = readToolUse({ tools: [tool] })!
    expect(tools).toEqual([
      { name: 'f', description: 'Does it.', parameters: { json: parameters } },
    ])
  })

  it('need neither description nor parameters', () => {
    expect(readToolUse({ tools: [g] })!.tools).toEqual([
      { name: 'g', description: '', parameters: { json: { type: 'object', properties: {} } } },
    ])
  })

  it('may have a Zod or Standard Schema object, which then checks the arguments', () => {
    const schema = z.object({ days: z.number().default(3), city: z.string().trim() })
    const [tool] = readToolUse({ tools: [{ ...f, parameters: schema }] })!.tools
    expect(tool!.parameters.json).toMatchObject({ required: ['city'] })
    expect(tool!.parameters.validate?.({ city: ' Oslo ' })).toEqual({
      value: { city: 'Oslo', days: 3 },
    })
    expect(tool!.parameters.validate?.({ city: 1 })).toEqual({
      error: 'city: Invalid input: expected string, received number',
    })
    const standard = {
      '~standard': {
        version: 1,
        vendor: 'mine',
        validate: (value: unknown) => ({ value }),
        jsonSchema: { input: () => ({ ...parameters, $schema: 'https://…' }) },
      },
    }
    const [other] = readToolUse({ tools: [{ ...f, parameters: standard }] })!.tools
    expect(other!.parameters.json).toEqual(parameters)
  })

  it('become plain data for JSON', () => {
    const tools = [{ ...g, parameters: z.object({ a: z.int() }) }]
    expect(toolsToJson(tools)).toMatchObject([{ name: 'g', parameters: { required: ['a'] } }])
    expect(JSON.parse(JSON.stringify(toolsToJson(tools)))).toEqual(toolsToJson(tools))
  })

  it('are none where the list is empty or the choice is none', () => {
    expect(readToolUse({})).toBeUndefined()
    expect(readToolUse({ tools: [], toolChoice: 'auto' })).toBeUndefined()
    expect(readToolUse({ tools: [f], toolChoice: 'none' })).toBeUndefined()
  })

  it.each([
    [{ f }, 'tools', /must be a list of tools, not an object\. Write \{ name/],
    [[7], 'tools[0]', /tools\[0\] must be an object, not a number/],
    [[{ ...f, type: 'web_search' }], 'tools[0].type', /must be 'function', not 'web_search'/],
    [[{ type: 'function', function: 'f' }], 'tools[0].function', /must be an object, not a string/],
    [[{ type: 'function', function: f, name: 'f' }], 'tools[0].name', /is not known/],
    [[{ ...f, paramters: {} }], 'tools[0].paramters', /Did you mean 'parameters'\?/],
    [[{ ...f, name: 'get weather' }], 'tools[0].name', /1 to 64 letters.*not 'get weather'/],
    [[{ description: 'x' }], 'tools[0].name', /not undefined/],
    [[{ ...f, description: 1 }], 'tools[0].description', /must be a text, not a number/],
    [[{ ...f, strict: 'yes' }], 'tools[0].strict', /must be true or false/],
    [[f, { function: f, type: 'function' }], 'tools[1].name', /tools\[1\] and tools\[0\] are both/],
    [[{ ...f, parameters: [] }], 'tools[0].parameters', /must be a JSON Schema, or a Zod/],
    [
      [{ ...f, parameters: { type: 'string' } }],
      'tools[0].parameters',
      /the JSON Schema of an object/,
    ],
    [[{ ...f, parameters: z3.object({}) }], 'tools[0].parameters', /Zod 3: take Zod 4/],
    [
      [{ ...f, parameters: { '~standard': { version: 1, vendor: 'old', validate: () => 0 } } }],
      'tools[0].parameters',
      /schema of 'old', which does not say/,
    ],
  ])('refused: %j', (tools, path, message) => {
    const read = () => readToolUse({ tools })
    expect(read).toThrow(InvalidArgumentError)
    expect(read).toThrow(message)
    expect(read).toThrow(expect.objectContaining({ path }) as Error)
  })

  it('refused where JSON Schema has no word for a type', () => {
    const read = () => readToolUse({ tools: [{ ...f, parameters: z.object({ at: z.date() }) }] })
    expect(read).toThrow(SchemaError)
    expect(read).toThrow(
      /tools\[0\]\.parameters cannot be written as JSON Schema: .*types that JSON has/,
    )
  })
})

describe('toolChoice', () => {
  it.each([
    [undefined, 'auto'],
    ['auto', 'auto'],
    ['required', 'required'],
    [{ name: 'g' }, { name: 'g' }],
    [{ type: 'function', name: 'g' }, { name: 'g' }],
    [{ type: 'function', function: { name: 'g' } }, { name: 'g' }],
  ])('%j', (toolChoice, choice) => {
    expect(readToolUse({ tools: [f, g], toolChoice })).toMatchObject({ choice, parallel: false })
  })

  it.each([
    [{ toolChoice: 'requred' }, 'toolChoice', /Did you mean 'required'\?/],
    [
      { toolChoice: 5 },
      'toolChoice',
      /must be 'auto', 'none', 'required' or \{ name: '…' \}, not a number/,
    ],
    [{ toolChoice: { name: 'ff' } }, 'toolChoice.name', /'ff', and the tools are 'f', 'g'/],
    [
      { toolChoice: { type: 'function', function: {} } },
      'toolChoice.function.name',
      /is undefined/,
    ],
    [{ toolChoice: { type: 'tool', name: 'f' } }, 'toolChoice.type', /must be 'function'/],
    [{ toolChoice: { nam: 'f' } }, 'toolChoice.nam', /Did you mean 'name'\?/],
    [{ tools: undefined, toolChoice: 'required' }, 'toolChoice', /but no tools/],
    [{ tools: [], toolChoice: { name: 'f' } }, 'toolChoice.name', /there are no tools/],
    [{ tools: [], parallelToolCalls: true }, 'parallelToolCalls', /but no tools/],
  ])('refused: %j', (options, path, message) => {
    const read = () => readToolUse({ tools: [f, g], ...options })
    expect(read).toThrow(message)
    expect(read).toThrow(expect.objectContaining({ path }) as Error)
  })
})
