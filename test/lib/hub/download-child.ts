/** Downloads in a process of its own, for tests that kill it: `download-child.ts <id> <options as JSON>`. */
import { downloadModel, type DownloadModelOptions } from '../../../lib/hub/download-model.js'

const [id = '', options = '{}'] = process.argv.slice(2)
const { folder, downloadedBytes } = await downloadModel(id, {
  ...(JSON.parse(options) as DownloadModelOptions),
  onProgress: ({ phase, loadedBytes }) => void process.stdout.write(`${phase} ${loadedBytes}\n`),
})
process.stdout.write(`${JSON.stringify({ folder, downloadedBytes })}\n`)
