/**
 * Functions that the model may ask for, in the manner of OpenAI's client and of Qwen-Agent.
 *
 * With the OpenAI client: `tools` in the request, `message.tool_calls` in the answer, and messages of role `tool`
 * with the results. The bundled checkpoint was not taught to call anything, so the call is required here; with
 * a published Instruct checkpoint, leave out `tool_choice`.
 *
 *     npx tsx examples/tools.ts
 */
import { loadModel, type ChatMessage, type ToolDefinition } from 'qwen2-vl'

const tools: ToolDefinition[] = [
  {
    type: 'function',
    function: {
      name: 'get_temperature',
      description: 'The temperature of a city in degrees Celsius.',
      parameters: {
        type: 'object',
        properties: {
          city: { enum: ['Oslo', 'Rome'] },
          hour: { type: 'integer', minimum: 0, maximum: 23 },
        },
        required: ['city', 'hour'],
      },
    },
  },
]
const temperatures: Record<string, number> = { Oslo: 4, Rome: 19 }

await using model = await loadModel('tiny')

const messages: ChatMessage[] = [{ role: 'user', content: 'Is it warm at noon?' }]
const first = await model.generate({ messages, tools, tool_choice: 'required', temperature: 0 })
for (const { message, finish_reason } of first.toOpenAI().choices) {
  console.log(`${finish_reason}: ${message.tool_calls?.map((call) => call.function.name).join()}`)
  messages.push(message)
}
for (const { id, name, arguments: given } of first.toolCalls) {
  const { city, hour } = given as { city: string; hour: number }
  console.log(
    `${name}: a city that is known: ${city in temperatures}, an hour of a day: ${hour < 24}`,
  )
  messages.push({ role: 'tool', tool_call_id: id, content: `${temperatures[city]} °C` })
}

const second = await model.generate({ messages, tools, temperature: 0, maxTokens: 32 })
console.log(`then it speaks: ${second.finishReason !== 'tool-calls' && second.text !== ''}`)
