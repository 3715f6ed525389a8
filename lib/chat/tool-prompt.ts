/**
 * Tells the model of its tools. The chat template has no place for them; this is the form that Qwen-Agent
 * gives Qwen2-VL, to the character: a text in the system message, in Chinese where the conversation is.
 */
import type { TemplateMessage, TemplatePart } from './messages.js'
import { pythonJson } from './python-json.js'
import { marks } from './tool-marks.js'
import type { Tool, ToolUse } from './tools.js'

/** The messages with the text on tools: at the end of the system message, or as one of its own. */
export function withToolPrompt(
  messages: readonly TemplateMessage[],
  use: ToolUse,
): TemplateMessage[] {
  const text = toolSystemText(use, hasChinese(messages) ? 'zh' : 'en')
  const [first, ...rest] = messages
  if (first?.role !== 'system') return [{ role: 'system', content: text }, ...messages]
  const addition = `\n\n${text}`
  const content: TemplateMessage['content'] =
    typeof first.content === 'string'
      ? first.content + addition
      : [...first.content, { type: 'text', text: addition }]
  return [{ ...first, content }, ...rest]
}

/** With which an answer begins that must call the tool `name`. */
export function forcedCall(name: string): string {
  return `${marks.call}: ${name}`
}

type Language = keyof typeof words

/** The text on tools. */
export function toolSystemText({ tools, parallel }: ToolUse, language: Language): string {
  const { heading, parallelRules, rules } = words[language]
  const names = tools.map(({ name }) => name).join(',')
  const described = tools.map((tool) => describe(tool, language))
  return [heading, ...described, (parallel ? parallelRules : rules)(names)].join('\n\n')
}

function describe({ name, description, parameters }: Tool, language: Language): string {
  const { inputs, codeInput, jsonInput } = words[language]
  const format = name === codeInterpreter ? codeInput : jsonInput
  const schema = pythonJson(parameters.json)
  return `### ${name}\n\n${name}: ${description} ${inputs}${schema} ${format}`.trimEnd()
}

/** The tool whose input is code between fences rather than JSON. */
export const codeInterpreter = 'code_interpreter'

/** The model's instructions are in Chinese where a system or user message has a Chinese character. */
function hasChinese(messages: readonly TemplateMessage[]): boolean {
  return messages.some(
    ({ role, content }) =>
      (role === 'system' || role === 'user') && textsOf(content).some((text) => chinese.test(text)),
  )
}

function textsOf(content: string | readonly TemplatePart[]): string[] {
  if (typeof content === 'string') return [content]
  return content.flatMap((part) => (part.type === 'text' ? [part.text] : []))
}

const chinese = /[\u4e00-\u9fff]/

const { call, args, result } = marks
const end = marks.return

const words = {
  en: {
    heading: '# Tools\n\n## You have access to the following tools:',
    inputs: 'Parameters: ',
    jsonInput: 'Format the arguments as a JSON object.',
    codeInput: 'Enclose the code within triple backticks (`) at the beginning and end of the code.',
    rules: (names: string) =>
      '## When you need to call a tool, please insert the following command in your reply, which can be called ' +
      'zero or multiple times according to your needs:\n\n' +
      `${call}: The tool to use, should be one of [${names}]\n` +
      `${args}: The input of the tool\n` +
      `${result}: Tool results\n` +
      `${end}: Reply based on tool results. Images need to be rendered as ![](url)`,
    parallelRules: (names: string) =>
      '## Insert the following command in your reply when you need to call N tools in parallel:\n\n' +
      `${call}: The name of tool 1, should be one of [${names}]\n` +
      `${args}: The input of tool 1\n` +
      `${call}: The name of tool 2\n` +
      `${args}: The input of tool 2\n` +
      '...\n' +
      `${call}: The name of tool N\n` +
      `${args}: The input of tool N\n` +
      `${result}: The result of tool 1\n` +
      `${result}: The result of tool 2\n` +
      '...\n' +
      `${result}: The result of tool N\n` +
      `${end}: Reply based on tool results. Images need to be rendered as ![](url)`,
  },
  zh: {
    heading: '# 工具\n\n## 你拥有如下工具：',
    inputs: '输入参数：',
    jsonInput: '此工具的输入应为JSON对象。',
    codeInput: '此工具的输入应为Markdown代码块。',
    rules: (names: string) =>
      '## 你可以在回复中插入零次、一次或多次以下命令以调用工具：\n\n' +
      `${call}: 工具名称，必须是[${names}]之一。\n` +
      `${args}: 工具输入\n` +
      `${result}: 工具结果\n` +
      `${end}: 根据工具结果进行回复，需将图片用![](url)渲染出来`,
    parallelRules: (names: string) =>
      '## 你可以在回复中插入以下命令以并行调用N个工具：\n\n' +
      `${call}: 工具1的名称，必须是[${names}]之一\n` +
      `${args}: 工具1的输入\n` +
      `${call}: 工具2的名称\n` +
      `${args}: 工具2的输入\n` +
      '...\n' +
      `${call}: 工具N的名称\n` +
      `${args}: 工具N的输入\n` +
      `${result}: 工具1的结果\n` +
      `${result}: 工具2的结果\n` +
      '...\n' +
      `${result}: 工具N的结果\n` +
      `${end}: 根据工具结果进行回复，需将图片用![](url)渲染出来`,
  },
} as const
