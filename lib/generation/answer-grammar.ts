/** What an answer may be, by the form that it is to have and the tools that it may call. */
import { marks } from '../chat/tool-marks.js'
import { codeInterpreter } from '../chat/tool-prompt.js'
import type { Tool, ToolUse } from '../chat/tools.js'
import {
  alt,
  GrammarBuilder,
  never,
  optional,
  repeat,
  seq,
  text,
  type Expr,
} from '../constraint/expression.js'
import type { Grammar } from '../constraint/grammar.js'
import { anyText, literal } from '../constraint/regex.js'
import type { AnswerFormat } from '../constraint/response-format.js'
import { schemaExpr } from '../constraint/schema-grammar.js'
import { plainChar, textExpr } from '../constraint/text-grammar.js'
import { SchemaError } from '../errors.js'
import { Recent } from '../recent.js'

/** What of a request bears on the form of its answer. */
export interface AnswerRules {
  format: AnswerFormat | undefined
  toolUse: ToolUse | undefined
  /** The answer goes on behind the result of a tool, and begins with a colon. */
  continues: boolean
}

/** By what they were made of. */
const kept = new Recent<string, Grammar>(32)

/**
 * The grammar of an answer; undefined where it may be anything.
 *
 * @throws SchemaError
 */
export function answerGrammar(rules: AnswerRules): Grammar | undefined {
  const { format, toolUse, continues } = rules
  if (!format && !toolUse) return undefined
  const tools = toolUse?.tools.map(({ name, parameters }) => [name, parameters.json])
  const key = JSON.stringify([format?.key, tools, toolUse?.choice, toolUse?.parallel, continues])
  return kept.get(key, () => makeGrammar(rules))
}

function makeGrammar({ format, toolUse, continues }: AnswerRules): Grammar {
  const builder = new GrammarBuilder()
  const plain = format ? seq(text(continues ? ': ' : ''), format.expr(builder)) : never
  if (!toolUse) return builder.build(plain)
  const { tools, choice, parallel } = toolUse
  if (typeof choice === 'object') {
    const tool = tools.find(({ name }) => name === choice.name)
    return builder.build(tool ? inputExpr(tool, builder) : never)
  }
  const call = alt(...tools.map((tool) => seq(text(tool.name), inputExpr(tool, builder))))
  const others = parallel ? repeat(seq(text(`\n${marks.call}: `), call), 0, null) : text('')
  const calls = seq(text(': '), call, others, optional(text(`\n${marks.result}`)))
  // Free text may come first only where no form is asked for.
  if (choice === 'auto' && !format) return { ...builder.build(calls), triggers: [marks.call] }
  const begin = text(`${continues ? ': \n' : ''}${marks.call}`)
  return builder.build(alt(seq(begin, calls), choice === 'required' ? never : plain))
}

/** From behind the name to the end of the arguments. */
function inputExpr(tool: Tool, builder: GrammarBuilder): Expr {
  const begin = text(`\n${marks.args}: `)
  if (tool.name === codeInterpreter) return seq(begin, codeExpr(builder))
  try {
    return seq(begin, schemaExpr(tool.parameters.json, builder))
  } catch (error) {
    if (!(error instanceof SchemaError)) throw error
    const message = `The parameters of the tool '${tool.name}': ${error.message}`
    throw new SchemaError(message, { cause: error, details: { ...error.details, tool: tool.name } })
  }
}

/** Code between fences, which it cannot hold itself. */
function codeExpr(builder: GrammarBuilder): Expr {
  const fence = '```'
  const withFence = { kind: 'seq', parts: [anyText, literal(fence), anyText] } as const
  const rules = { required: [], forbidden: [withFence], minLength: 0, maxLength: Infinity }
  const code = textExpr(rules, plainChar, builder) ?? never
  return seq(
    optional(text('\n')),
    text(fence),
    alt(text('py'), text('python'), text('')),
    text('\n'),
    code,
    text(`\n${fence}`),
  )
}
