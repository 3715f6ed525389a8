/** A Hugging Face folder, read and checked: everything about a checkpoint but the weights themselves. */
import { stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { CheckpointError, ModelNotFoundError } from '../errors.js'
import type { NativeModelConfig } from '../native.js'
import type { TokenizerFiles } from '../tokenizer/tokenizer.js'
import { parseConfig, type ModelConfig } from './config.js'
import {
  isJsonObject,
  MAX_CONFIG_BYTES,
  MAX_TOKENIZER_BYTES,
  parseJsonObject,
  readJsonFile,
  readTextFile,
} from './files.js'
import { parseGenerationConfig, type GenerationDefaults } from './generation-config.js'
import { readQuantizerFile } from './quantization-config.js'
import { parsePreprocessorConfig, type PreprocessorConfig } from './preprocessor-config.js'
import { findWeightFiles } from './weight-files.js'

export type { GenerationDefaults, ModelConfig, PreprocessorConfig }

/** What a checkpoint folder says. Its files are read once; later changes on disk are not seen. */
export interface Checkpoint {
  /** Absolute path. */
  folder: string
  /** `Qwen2VLForConditionalGeneration`. */
  architecture: string
  config: ModelConfig
  generation: GenerationDefaults
  preprocessor: PreprocessorConfig
  /** The texts of the tokenizer's files, for `loadTokenizer`. */
  tokenizerFiles: TokenizerFiles
  /** The Jinja template; base models may have none. */
  chatTemplate: string | undefined
  /** Absolute paths of the safetensors files. Their contents are checked when they are loaded. */
  weightFiles: string[]
}

/**
 * Reads a checkpoint folder as published on the Hugging Face hub.
 *
 * @throws ModelNotFoundError when `folder` is not a folder.
 * @throws UnsupportedModelError when it holds something else than a Qwen2-VL this version can run.
 * @throws CheckpointError when a file is missing, damaged or contradicts another.
 */
export async function openCheckpoint(folder: string): Promise<Checkpoint> {
  folder = resolve(folder)
  await checkFolder(folder)
  const configJson = await readJsonFile(folder, 'config.json')
  if (configJson === undefined) {
    throw new CheckpointError(
      'ERR_CHECKPOINT_MISSING_FILE',
      `${folder} has no config.json, so it is not a checkpoint folder. Name the folder that holds ` +
        'config.json, the tokenizer files and the *.safetensors weights.',
      { details: { file: join(folder, 'config.json') } },
    )
  }
  const quantizerFile = await readQuantizerFile(folder, (name) => readJsonFile(folder, name))
  const { architecture, config } = parseConfig(
    configJson,
    join(folder, 'config.json'),
    quantizerFile,
  )
  const tokenizerFiles = await readTokenizerFiles(folder)
  return {
    folder,
    architecture,
    config,
    generation: await readGeneration(folder),
    preprocessor: await readPreprocessor(folder),
    tokenizerFiles,
    chatTemplate: await readChatTemplate(folder, tokenizerFiles.tokenizerConfigJson),
    weightFiles: await findWeightFiles(folder),
  }
}

/** The configuration as the core takes it. */
export function toNativeConfig(checkpoint: Checkpoint): NativeModelConfig {
  const { config, preprocessor } = checkpoint
  return {
    hiddenSize: config.hiddenSize,
    intermediateSize: config.intermediateSize,
    numLayers: config.numLayers,
    numHeads: config.numHeads,
    numKvHeads: config.numKvHeads,
    vocabSize: config.vocabSize,
    rmsNormEps: config.rmsNormEps,
    ropeTheta: config.ropeTheta,
    mropeSection: config.mropeSection,
    tieWordEmbeddings: config.tieWordEmbeddings,
    imageTokenId: config.imageTokenId,
    videoTokenId: config.videoTokenId,
    vision: config.vision,
    ...(config.storedQuantization && { storedQuantization: config.storedQuantization }),
    imageMean: preprocessor.imageMean,
    imageStd: preprocessor.imageStd,
    rescaleFactor: preprocessor.rescaleFactor,
  }
}

async function checkFolder(folder: string): Promise<void> {
  let info
  try {
    info = await stat(folder)
  } catch (cause) {
    throw new ModelNotFoundError(
      `There is no checkpoint at ${folder} (${(cause as Error).message}). Give the path of a folder ` +
        'with config.json and *.safetensors files.',
      { cause, details: { folder } },
    )
  }
  if (!info.isDirectory()) {
    throw new ModelNotFoundError(
      `${folder} is a file. Give the path of the checkpoint's folder, not of one of its files.`,
      { details: { folder } },
    )
  }
}

async function readGeneration(folder: string): Promise<GenerationDefaults> {
  const name = 'generation_config.json'
  return parseGenerationConfig((await readJsonFile(folder, name)) ?? {}, join(folder, name))
}

/**
 * `preprocessor_config.json`; where only the newest exporters' `processor_config.json` exists, its
 * `image_processor` section.
 */
async function readPreprocessor(folder: string): Promise<PreprocessorConfig> {
  const name = 'preprocessor_config.json'
  const json = await readJsonFile(folder, name)
  if (json !== undefined) return parsePreprocessorConfig(json, join(folder, name))
  const nestedName = 'processor_config.json'
  const section = (await readJsonFile(folder, nestedName))?.['image_processor']
  return parsePreprocessorConfig(isJsonObject(section) ? section : {}, join(folder, nestedName))
}

async function readTokenizerFiles(folder: string): Promise<TokenizerFiles> {
  const read = (name: string) => readTextFile(folder, name, MAX_TOKENIZER_BYTES)
  const tokenizerJson = await read('tokenizer.json')
  const vocabJson = await read('vocab.json')
  const mergesTxt = await read('merges.txt')
  const tokenizerConfigJson = await read('tokenizer_config.json')
  if (tokenizerJson === undefined && (vocabJson === undefined || mergesTxt === undefined)) {
    throw new CheckpointError(
      'ERR_CHECKPOINT_MISSING_FILE',
      `${folder} has no tokenizer: neither tokenizer.json nor both of vocab.json and merges.txt. ` +
        'Copy tokenizer.json and tokenizer_config.json from the published checkpoint.',
      { details: { file: join(folder, 'tokenizer.json') } },
    )
  }
  return {
    ...(tokenizerJson !== undefined && { tokenizerJson }),
    ...(vocabJson !== undefined && { vocabJson }),
    ...(mergesTxt !== undefined && { mergesTxt }),
    ...(tokenizerConfigJson !== undefined && { tokenizerConfigJson }),
  }
}

/** Look-up order of the reference: the Jinja file, the JSON file, the tokenizer's configuration. */
async function readChatTemplate(
  folder: string,
  tokenizerConfigJson: string | undefined,
): Promise<string | undefined> {
  const jinja = await readTextFile(folder, 'chat_template.jinja', MAX_CONFIG_BYTES)
  if (jinja !== undefined) return jinja
  const name = 'chat_template.json'
  const json = await readJsonFile(folder, name)
  if (json !== undefined) return templateOf(json['chat_template'], join(folder, name), true)
  if (tokenizerConfigJson === undefined) return undefined
  const file = join(folder, 'tokenizer_config.json')
  return templateOf(parseJsonObject(tokenizerConfigJson, file)['chat_template'], file, false)
}

/** A template is a string, or a list of named ones of which `default` is meant. */
function templateOf(value: unknown, file: string, required: boolean): string | undefined {
  if (typeof value === 'string') return value
  if (!required && (value === undefined || value === null)) return undefined
  if (Array.isArray(value)) {
    const named: unknown = value.find((entry) => isJsonObject(entry) && entry['name'] === 'default')
    if (isJsonObject(named) && typeof named['template'] === 'string') return named['template']
  }
  throw new CheckpointError(
    'ERR_CHECKPOINT_CHAT_TEMPLATE',
    `${file} has no usable chat_template: expected a string with the Jinja template, or a list ` +
      'with an entry named "default". Take the file from the published checkpoint.',
    { details: { file } },
  )
}
