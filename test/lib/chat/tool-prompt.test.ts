/** How the model is told of tools: the text that Qwen-Agent gives it, to the character. */
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import type { TemplateMessage } from '../../../lib/chat/messages.js'
import { toolSystemText, withToolPrompt } from '../../../lib/chat/tool-prompt.js'
import { readToolUse, type ToolDefinition } from '../../../lib/chat/tools.js'

const weather: ToolDefinition = {
  name: 'get_weather',
  description: 'Weather of a city. \n',
  parameters: {
    type: 'object',
    properties: {
      city: { type: 'string', description: 'z. B. „Köln“' },
      days: { type: 'integer' },
    },
    required: ['city'],
  },
}
const zoom: ToolDefinition = {
  type: 'function',
  function: { name: 'zoom', parameters: { type: 'object', properties: {} } },
}
const use = (tools: ToolDefinition[], parallelToolCalls = false) =>
  readToolUse({ tools, parallelToolCalls })!

const described =
  'get_weather: Weather of a city. \n Parameters: {"type": "object", "properties": {"city": {"type": "string", ' +
  '"description": "z. B. „Köln“"}, "days": {"type": "integer"}}, "required": ["city"]} ' +
  'Format the arguments as a JSON object.'

describe('the text on tools', () => {
  it('describes each tool, then says how it is called', () => {
    expect(toolSystemText(use([weather, zoom]), 'en')).toBe(
      [
        '# Tools',
        '',
        '## You have access to the following tools:',
        '',
        '### get_weather',
        '',
        described,
        '',
        '### zoom',
        '',
        'zoom:  Parameters: {"type": "object", "properties": {}} Format the arguments as a JSON object.',
        '',
        '## When you need to call a tool, please insert the following command in your reply, which can be ' +
          'called zero or multiple times according to your needs:',
        '',
        '✿FUNCTION✿: The tool to use, should be one of [get_weather,zoom]',
        '✿ARGS✿: The input of the tool',
        '✿RESULT✿: Tool results',
        '✿RETURN✿: Reply based on tool results. Images need to be rendered as ![](url)',
      ].join('\n'),
    )
  })

  it('has another form for calls in parallel', () => {
    const text = toolSystemText(use([zoom, weather], true), 'en')
    expect(text.slice(text.indexOf('## Insert'))).toBe(
      [
        '## Insert the following command in your reply when you need to call N tools in parallel:',
        '',
        '✿FUNCTION✿: The name of tool 1, should be one of [zoom,get_weather]',
        '✿ARGS✿: The input of tool 1',
        '✿FUNCTION✿: The name of tool 2',
        '✿ARGS✿: The input of tool 2',
        '...',
        '✿FUNCTION✿: The name of tool N',
        '✿ARGS✿: The input of tool N',
        '✿RESULT✿: The result of tool 1',
        '✿RESULT✿: The result of tool 2',
        '...',
        '✿RESULT✿: The result of tool N',
        '✿RETURN✿: Reply based on tool results. Images need to be rendered as ![](url)',
      ].join('\n'),
    )
  })

  it('has a Chinese form', () => {
    expect(toolSystemText(use([zoom]), 'zh')).toBe(
      [
        '# 工具',
        '',
        '## 你拥有如下工具：',
        '',
        '### zoom',
        '',
        'zoom:  输入参数：{"type": "object", "properties": {}} 此工具的输入应为JSON对象。',
        '',
        '## 你可以在回复中插入零次、一次或多次以下命令以调用工具：',
        '',
        '✿FUNCTION✿: 工具名称，必须是[zoom]之一。',
        '✿ARGS✿: 工具输入',
        '✿RESULT✿: 工具结果',
        '✿RETURN✿: 根据工具结果进行回复，需将图片用![](url)渲染出来',
      ].join('\n'),
    )
  })

  it('asks for code between fences where a tool is the code interpreter', () => {
    const text = toolSystemText(
      use([{ name: 'code_interpreter', description: 'Runs Python.' }]),
      'en',
    )
    expect(text).toContain(
      'code_interpreter: Runs Python. Parameters: {"type": "object", "properties": {}} Enclose the code within ' +
        'triple backticks (`) at the beginning and end of the code.\n\n## When',
    )
  })

  it('writes the JSON of parameters as Python does, whatever library they come from', () => {
    const properties = { size: { enum: [1, 0.5, 1e-7, 'a/"b"\n', null, true] } }
    const plain = { name: 'f', parameters: { type: 'object', properties } }
    expect(toolSystemText(use([plain]), 'en')).toContain(
      '{"type": "object", "properties": {"size": {"enum": [1, 0.5, 1e-07, "a/\\"b\\"\\n", null, true]}}}',
    )
    const parameters = z.object({ city: z.string().describe('Where') })
    expect(toolSystemText(use([{ name: 'f', parameters }]), 'en')).toContain(
      'Parameters: {"type": "object", "properties": {"city": {"type": "string", "description": "Where"}}, ' +
        '"required": ["city"]} Format',
    )
  })
})

describe('where it stands', () => {
  const text = toolSystemText(use([zoom]), 'en')
  const user: TemplateMessage = { role: 'user', content: 'Hello' }
  const told = (...messages: TemplateMessage[]) => withToolPrompt(messages, use([zoom]))

  it('is a system message where there is none', () => {
    expect(told(user)).toEqual([{ role: 'system', content: text }, user])
  })

  it('is at the end of the system message, behind a blank line', () => {
    expect(told({ role: 'system', content: 'Be brief.' }, user)).toEqual([
      { role: 'system', content: `Be brief.\n\n${text}` },
      user,
    ])
    const parts = [{ type: 'text' as const, text: 'Be brief.' }]
    expect(told({ role: 'system', content: parts }, user)[0]!.content).toEqual([
      ...parts,
      { type: 'text', text: `\n\n${text}` },
    ])
  })

  it('is in Chinese where a system or user message has a Chinese character', () => {
    expect(told({ role: 'user', content: [{ type: 'text', text: '放大' }] })[0]!.content).toMatch(
      /^# 工具/,
    )
    expect(told(user, { role: 'assistant', content: '好' }, user)[0]!.content).toBe(text)
  })
})
