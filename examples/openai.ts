/**
 * The body of an OpenAI chat completion, as it is.
 *
 * With the OpenAI client: `await client.chat.completions.create(body)`. The same body goes to `generate`, and
 * `toOpenAI()` gives the result in the form that the client gives. `model` names the answer only; the
 * model that answers is the one that was loaded.
 *
 *     npx tsx examples/openai.ts
 */
import { readFile } from 'node:fs/promises'
import { loadModel, type GenerateRequest } from 'qwen2-vl'

const bytes = await readFile(new URL('../models/qwen2-vl-tiny/images/count.png', import.meta.url))

const body: GenerateRequest = {
  model: 'qwen2-vl-tiny',
  messages: [
    { role: 'system', content: 'You are a helpful assistant.' },
    {
      role: 'user',
      content: [
        { type: 'text', text: 'How many shapes are there?' },
        {
          type: 'image_url',
          image_url: { url: `data:image/png;base64,${bytes.toString('base64')}`, detail: 'auto' },
        },
      ],
    },
  ],
  max_completion_tokens: 64,
  temperature: 0,
  logprobs: true,
  top_logprobs: 2,
}

await using model = await loadModel('tiny')

const completion = (await model.generate(body)).toOpenAI()
const [choice] = completion.choices
console.log(`${completion.model}: ${choice?.message.content} (${choice?.finish_reason})`)
console.log(`${completion.usage.prompt_tokens} + ${completion.usage.completion_tokens} tokens`)
console.log(`first token: ${choice?.logprobs?.content[0]?.token}`)
