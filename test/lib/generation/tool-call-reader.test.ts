/** Reading calls out of an answer that comes in pieces, however it is cut. */
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { readToolUse, type ToolOptions } from '../../../lib/chat/tools.js'
import { Answer } from '../../../lib/generation/answer.js'
import { objectEnd } from '../../../lib/generation/json-end.js'
import { ToolCallReader } from '../../../lib/generation/tool-call-reader.js'

const tools = [{ name: 'f' }, { name: 'g' }, { name: 'code_interpreter' }]

function read(pieces: readonly string[], options: ToolOptions = {}, isWhole = true) {
  const reader = new ToolCallReader(readToolUse({ tools, parallelToolCalls: true, ...options })!)
  const shown = pieces.map((piece) => reader.push(piece))
  const early = reader.take()
  const text = shown.join('') + reader.finish(isWhole)
  const calls = [...early, ...reader.take()]
  for (const { id } of calls) expect(id).toMatch(/^call_[0-9a-f]{24}$/)
  const told = calls.map(({ name, argumentsText, arguments: value, error }) => ({
    ...{ name, argumentsText, arguments: value },
    ...(error !== undefined && { error }),
  }))
  return { text, calls: told, numEarly: early.length, shown }
}

const call = (name: string, argumentsText: string, rest: object = {}) => ({
  name,
  argumentsText,
  arguments: argumentsText === '' ? {} : (JSON.parse(argumentsText) as unknown),
  ...rest,
})

const answers: [string, string, string, object[]][] = [
  ['no call', 'Just ✿ text.\n', 'Just ✿ text.\n', []],
  ['a call alone', '✿FUNCTION✿: f\n✿ARGS✿: {"a": "}{"}', '', [call('f', '{"a": "}{"}')]],
  [
    'text before a call',
    'I look.\n\n✿FUNCTION✿: f\n✿ARGS✿: {"a": [1, {"b": "\\"✿ARGS✿:"}]}\n',
    'I look.',
    [call('f', '{"a": [1, {"b": "\\"✿ARGS✿:"}]}')],
  ],
  [
    'two calls and a remark, which is dropped',
    'So:\n✿FUNCTION✿: f\n✿ARGS✿: {"a": 1} <!-- one -->\n✿FUNCTION✿: g\n✿ARGS✿: {}\nDone.',
    'So:',
    [call('f', '{"a": 1}'), call('g', '{}')],
  ],
  [
    'two inputs of one tool',
    '✿FUNCTION✿: f\n✿ARGS✿: {"a": 1}\n✿ARGS✿: {"a": 2}',
    '',
    [call('f', '{"a": 1}'), call('f', '{"a": 2}')],
  ],
  ['no arguments', '✿FUNCTION✿: f\n✿FUNCTION✿: g', '', [call('f', ''), call('g', '')]],
  [
    'code',
    '✿FUNCTION✿: code_interpreter\n✿ARGS✿: \n```py\nprint({1: 2})\n```\n',
    '',
    [
      {
        name: 'code_interpreter',
        argumentsText: '```py\nprint({1: 2})\n```',
        arguments: 'print({1: 2})',
      },
    ],
  ],
  ['a part of a marker at the end', 'Well ✿RES', 'Well', []],
  ['a part of a marker behind a name', '✿FUNCTION✿: f ✿AR', '', [call('f', '')]],
  [
    'an unknown tool',
    '✿FUNCTION✿: h\n✿ARGS✿: {}',
    '',
    [call('h', '{}', { error: "There is no tool named 'h'." })],
  ],
  [
    'arguments that are no JSON',
    '✿FUNCTION✿: f\n✿ARGS✿: Oslo',
    '',
    [{ name: 'f', argumentsText: 'Oslo', arguments: 'Oslo', error: 'The arguments are not JSON.' }],
  ],
]

describe.each(answers)('an answer with %s', (_, answer, text, calls) => {
  it('is read the same wherever it is cut', () => {
    for (let cut = 0; cut <= answer.length; ++cut) {
      const result = read([answer.slice(0, cut), answer.slice(cut)])
      expect(result, `cut at ${cut}`).toMatchObject({ text, calls })
    }
    expect(read(answer.split(''))).toMatchObject({ text, calls })
  })

  it('never shows a part of a marker', () => {
    let shown = ''
    for (const piece of read(answer.split('')).shown) {
      shown += piece
      expect(text.startsWith(shown)).toBe(true)
    }
  })
})

describe('a call', () => {
  it('is told as soon as its object is complete', () => {
    expect(read(['✿FUNCTION✿: f\n✿ARGS✿: {"a": {}}'])).toMatchObject({ numEarly: 1 })
    expect(read(['✿FUNCTION✿: f\n✿ARGS✿: {"a": {}'])).toMatchObject({ numEarly: 0 })
  })

  it('does not count where the answer was cut off inside it', () => {
    for (const cut of [
      '✿FUNCTION✿: f',
      '✿FUNCTION✿: f\n✿ARGS✿:',
      '✿FUNCTION✿: f\n✿ARGS✿: {"a": "b',
    ]) {
      expect(read([cut], {}, false)).toMatchObject({ text: '', calls: [] })
    }
    const first = '✿FUNCTION✿: f\n✿ARGS✿: {"a": 1}\n'
    expect(read([`${first}✿FUNCTION✿: g`], {}, false).calls).toEqual([call('f', '{"a": 1}')])
  })

  it('may have begun in the prompt', () => {
    const answer = '\n✿ARGS✿: {"a": 1}'
    for (let cut = 0; cut <= answer.length; ++cut) {
      const pieces = [answer.slice(0, cut), answer.slice(cut)]
      expect(read(pieces, { toolChoice: { name: 'g' } })).toMatchObject({
        text: '',
        calls: [call('g', '{"a": 1}')],
      })
    }
  })

  it('is the only one unless there may be several', () => {
    const both = '✿FUNCTION✿: f\n✿ARGS✿: {}\n✿FUNCTION✿: g\n✿ARGS✿: {}'
    expect(read([both], { parallelToolCalls: false }).calls).toEqual([call('f', '{}')])
    const reader = new ToolCallReader(readToolUse({ tools })!)
    expect([reader.push('✿FUNCTION✿: f\n✿ARGS✿: {'), reader.isDone]).toEqual(['', false])
    expect([reader.push('}'), reader.isDone]).toEqual(['', true])
  })

  it("has the arguments that the tool's own schema makes of them", () => {
    const parameters = z.object({ days: z.int().default(3) })
    const own = {
      tools: [{ name: 'f', parameters: parameters.refine(({ days }) => days < 9, 'too long') }],
    }
    const of = (text: string) => read([`✿FUNCTION✿: f\n✿ARGS✿: ${text}`], own).calls
    expect(of('{}')).toEqual([call('f', '{}', { arguments: { days: 3 } })])
    const error = "The arguments do not fit the tool's schema: too long."
    expect(of('{"days": 9}')).toEqual([call('f', '{"days": 9}', { error })])
  })
})

describe('an Answer with calls', () => {
  const words = ['I look', '.', '\n✿FUNC', 'TION✿: f', '\n✿ARGS✿: {', '}', '\n✿RES', 'ULT✿', ': 5']
  const decoder = { push: (id: number) => words[id] ?? '', flush: () => '' }
  const answerTo = (options: ToolOptions = {}) => {
    const calls = new ToolCallReader(readToolUse({ tools, ...options })!)
    return new Answer(decoder, [99], ['✿RESULT✿'], undefined, calls)
  }

  it('ends with the only call', () => {
    const answer = answerTo()
    const shown = [0, 1, 2, 3, 4, 5].map((id) => answer.push(id))
    expect(shown).toEqual(['I look', '.', '', '', '', ''])
    expect(answer.stopped).toBe(true)
    expect([answer.push(6), answer.finish(false)]).toEqual(['', ''])
    expect(answer.takeCalls()).toMatchObject([{ name: 'f', arguments: {} }])
    expect(answer.text).toBe('I look.')
  })

  it('ends where the result would stand, of which nothing is shown', () => {
    const answer = answerTo({ parallelToolCalls: true })
    for (const id of [0, 1, 2, 3, 4, 5, 6]) answer.push(id)
    expect(answer.stopped).toBe(false)
    answer.push(7)
    expect(answer.stopped).toBe(true)
    expect(answer.finish(false)).toBe('')
    expect(answer.takeCalls()).toHaveLength(1)
    expect(answer.text).toBe('I look.')
  })
})

describe('objectEnd', () => {
  it('finds the end of an object, not of brackets in its strings', () => {
    const object = ' {"a}": "\\"}", "b": [{}, {"c": "\\\\"}]}'
    expect(objectEnd(`${object} }`)).toBe(object.length)
    for (let cut = 0; cut < object.length; ++cut) {
      expect(objectEnd(object.slice(0, cut)), object.slice(0, cut)).toBeUndefined()
    }
  })

  it('knows of nothing else', () => {
    expect(objectEnd('[1]')).toBeUndefined()
    expect(objectEnd('')).toBeUndefined()
  })
})
