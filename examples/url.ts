/**
 * An image from the web.
 *
 * In Python: `"image": "https://…/demo.jpeg"`, which is fetched without limits of any kind. Here a fetch has
 * limits of time, size and redirects, and hosts of private networks are refused: an address may come
 * from somebody who is not meant to see what your machine can reach. `allowedHosts` narrows it further.
 *
 *     npx tsx examples/url.ts https://example.com/picture.jpg
 *     npx tsx examples/url.ts http://localhost:8080/picture.jpg --allow-private-hosts
 */
import { parseArgs } from 'node:util'
import { FetchError, loadModel } from 'qwen2-vl'

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { 'allow-private-hosts': { type: 'boolean', default: false } },
})
const [url] = positionals
if (url === undefined) {
  throw new Error('Usage: npx tsx examples/url.ts <address> [--allow-private-hosts]')
}

await using model = await loadModel('tiny', {
  allowPrivateHosts: values['allow-private-hosts'],
  fetchTimeoutMs: 10_000,
})

try {
  const { text } = await model.generate({
    messages: [
      {
        role: 'user',
        content: [
          { type: 'image', image: url },
          { type: 'text', text: 'What does the text say?' },
        ],
      },
    ],
    maxTokens: 128,
  })
  console.log(text)
} catch (error) {
  if (!(error instanceof FetchError)) throw error
  console.log(`${error.code}: ${error.message}`)
}
