/**
 * Answers in a form that a program can read: JSON of a Zod object, one of some texts, a pattern.
 *
 * With Python this takes a library beside transformers; here it is the request's `responseFormat`. Every token
 * keeps to the form, so that even the bundled checkpoint, which was never shown JSON, writes nothing else.
 *
 *     npx tsx examples/structured-output.ts
 */
import { fileURLToPath } from 'node:url'
import { loadModel, type ResponseFormat } from 'qwen2-vl'
import { z } from 'zod'

await using model = await loadModel('tiny')

const image = fileURLToPath(
  new URL('../models/qwen2-vl-tiny/images/ocr-hello.png', import.meta.url),
)
const ask = <const Format extends ResponseFormat>(text: string, responseFormat: Format) =>
  model.generate({
    messages: [
      {
        role: 'user',
        content: [
          { type: 'image', image },
          { type: 'text', text },
        ],
      },
    ],
    temperature: 0,
    maxTokens: 64,
    responseFormat,
  })

const Sign = z.object({
  kind: z.literal('sign'),
  text: z.string().regex(/^[A-Z]{1,8}$/),
  isReadable: z.boolean(),
})
const { object: sign } = await ask('What does the text say?', Sign)
if (sign) console.log(`a ${sign.kind} with ${typeof sign.text} and ${typeof sign.isReadable}`)

const kinds = { type: 'choice', choices: ['a text', 'a photograph'] } as const
const { object: kind } = await ask('What is it?', kinds)
console.log(kind === 'a text' || kind === 'a photograph')

const { text } = await ask('What does the text say?', {
  type: 'regex',
  pattern: 'The text says "[A-Z]+"\\.',
})
console.log(text)

// What cannot be written to its end has no object, and says why.
const long = { type: 'json_schema', schema: { type: 'string', minLength: 200 } } as const
const { object, objectError, finishReason } = await ask('What does the text say?', long)
console.log(`${finishReason}: ${String(object)}: ${objectError}`)
