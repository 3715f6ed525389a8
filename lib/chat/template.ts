/** The checkpoint's chat template: messages to the text of a prompt. */
import { Template } from '@huggingface/jinja'
import { CheckpointError, InvalidArgumentError } from '../errors.js'
import type { TemplateMessage } from './messages.js'

/** Variables of the template. */
export interface RenderOptions {
  /** End with the beginning of the assistant's turn. Default: true. */
  addGenerationPrompt?: boolean
  /** Write `Picture 1: `, `Video 1: ` before images and videos. Default: false. */
  addVisionId?: boolean
  /** Leave the last turn open for the model to continue, instead of beginning another. Default: false. */
  continueLastTurn?: boolean
}

/** A compiled Jinja template, rendered as the reference does: `trim_blocks` and `lstrip_blocks` on. */
export class ChatTemplate {
  /** The template's text; `undefined` if the checkpoint has none. */
  readonly source: string | undefined
  readonly #template: Template | undefined

  private constructor(source: string | undefined, template: Template | undefined) {
    this.source = source
    this.#template = template
  }

  /**
   * Compiles a template of the caller's.
   *
   * @throws InvalidArgumentError if it is not valid Jinja.
   */
  static compile(source: string): ChatTemplate {
    try {
      return new ChatTemplate(source, new Template(source))
    } catch (error) {
      throw new InvalidArgumentError(`The chat template is not valid Jinja: ${messageOf(error)}`, {
        path: 'chatTemplate',
        cause: error,
      })
    }
  }

  /**
   * Compiles the template of a checkpoint. One without a template can be loaded all the same;
   * rendering then throws.
   *
   * @throws CheckpointError (`ERR_CHECKPOINT_CHAT_TEMPLATE`) if it is not valid Jinja.
   */
  static ofCheckpoint(source: string | undefined): ChatTemplate {
    if (source === undefined) return new ChatTemplate(undefined, undefined)
    try {
      return new ChatTemplate(source, new Template(source))
    } catch (error) {
      throw new CheckpointError(
        'ERR_CHECKPOINT_CHAT_TEMPLATE',
        `The checkpoint's chat template is not valid Jinja: ${messageOf(error)}. Take the one of ` +
          'the model that the checkpoint was made from, or give one as the option chatTemplate.',
        { cause: error },
      )
    }
  }

  /**
   * Renders a conversation. Texts are written as they are: one that contains `<|im_end|>` ends the
   * turn, as in the reference.
   *
   * @throws InvalidArgumentError if there is no template, or it cannot render these messages.
   */
  render(messages: readonly TemplateMessage[], options: RenderOptions = {}): string {
    if (!this.#template) {
      throw new InvalidArgumentError(
        'The checkpoint has no chat template, so messages cannot be turned into a prompt. Take ' +
          'chat_template.json from the Instruct model of the same family and put it into the folder, ' +
          'or give a prompt instead of messages.',
        { path: 'messages' },
      )
    }
    const { addGenerationPrompt = true, addVisionId = false, continueLastTurn = false } = options
    let prompt: unknown
    try {
      prompt = this.#template.render({
        messages,
        add_generation_prompt: addGenerationPrompt && !continueLastTurn,
        add_vision_id: addVisionId,
      })
    } catch (error) {
      throw new InvalidArgumentError(
        `The chat template cannot render these messages: ${messageOf(error)}`,
        { path: 'messages', cause: error },
      )
    }
    if (typeof prompt !== 'string' || prompt === '') throw emptyPrompt()
    return continueLastTurn ? withoutTurnEnd(prompt) : prompt
  }
}

function withoutTurnEnd(prompt: string): string {
  const end = '<|im_end|>\n'
  if (prompt.endsWith(end)) return prompt.slice(0, -end.length)
  throw new InvalidArgumentError(
    'The conversation ends in the result of a tool, so that its last turn must be left open, and the chat ' +
      'template does not end a turn with <|im_end|> and a newline. Use the template of Qwen2-VL-Instruct, ' +
      'or write the calls and results as plain messages.',
    { path: 'messages' },
  )
}

/** The base models' template takes a flat list of parts, and makes nothing of messages with roles. */
function emptyPrompt(): InvalidArgumentError {
  return new InvalidArgumentError(
    'The chat template makes an empty prompt of these messages. It is that of a base model, which ' +
      'knows no roles and does not answer questions. Use the Instruct model of the same size ' +
      '(Qwen2-VL-2B-Instruct instead of Qwen2-VL-2B), or give a prompt instead of messages: a text ' +
      'or a list of texts and images, which the model continues.',
    { path: 'messages' },
  )
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
