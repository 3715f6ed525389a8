import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { onTestFinished } from 'vitest'

/** The keys of a small checkpoint in the flat, published layout. */
export const flatConfig = {
  architectures: ['Qwen2VLForConditionalGeneration'],
  model_type: 'qwen2_vl',
  hidden_size: 64,
  intermediate_size: 96,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 128,
  hidden_act: 'silu',
  rms_norm_eps: 1e-6,
  rope_theta: 1e6,
  rope_scaling: { type: 'mrope', mrope_section: [2, 3, 3] },
  max_position_embeddings: 512,
  use_sliding_window: false,
  sliding_window: 512,
  tie_word_embeddings: true,
  bos_token_id: 1,
  eos_token_id: 2,
  vision_start_token_id: 122,
  vision_end_token_id: 123,
  vision_token_id: 124,
  image_token_id: 125,
  video_token_id: 126,
  torch_dtype: 'bfloat16',
  vision_config: {
    depth: 2,
    embed_dim: 32,
    mlp_ratio: 4,
    num_heads: 2,
    in_chans: 3,
    hidden_size: 64,
    patch_size: 14,
    spatial_merge_size: 2,
    spatial_patch_size: 14,
    temporal_patch_size: 2,
  },
}

/** A file's content: text as it is, anything else as JSON; null leaves the file out. */
type Content = string | object | null

/** Writes a complete small checkpoint, with `files` in the place of its own, and removes it again. */
export async function checkpointFolder(files: Record<string, Content> = {}): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'qwen2-vl-checkpoint-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  const all: Record<string, Content> = {
    'config.json': flatConfig,
    'tokenizer.json': '{"model": {}}',
    'tokenizer_config.json': { chat_template: 'from tokenizer_config' },
    'model.safetensors': 'weights are read by the core',
    ...files,
  }
  for (const [name, content] of Object.entries(all)) {
    if (content === null) continue
    const file = join(folder, name)
    await mkdir(dirname(file), { recursive: true })
    await writeFile(file, typeof content === 'string' ? content : JSON.stringify(content))
  }
  return folder
}

/** {@link flatConfig} with some keys changed; undefined removes one. */
export function configWith(changes: Record<string, unknown>): object {
  return { ...flatConfig, ...changes }
}

/** {@link flatConfig} with some keys of its vision tower changed. */
export function visionWith(changes: Record<string, unknown>): object {
  return configWith({ vision_config: { ...flatConfig.vision_config, ...changes } })
}
