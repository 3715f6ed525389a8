/** The options of the commands that load a model: how its weights are kept. */
import { type Command, Option } from 'commander'

/** As commander gives them; `loadModel` takes them as they are. */
export interface WeightOptions {
  quantization?: 'none' | 'int8' | 'int4'
  visionQuantization?: 'none' | 'int8'
  activations?: 'fp32' | 'int8'
}

/** Adds `--quantization`, `--vision-quantization` and `--activations`. */
export function addWeightOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--quantization <mode>', 'of the decoder').choices(['none', 'int8', 'int4']),
    )
    .addOption(
      new Option('--vision-quantization <mode>', 'of the vision tower').choices(['none', 'int8']),
    )
    .addOption(
      new Option('--activations <type>', 'that quantised weights meet').choices(['fp32', 'int8']),
    )
}

/** Those that were given. */
export function weightOptions(options: WeightOptions): WeightOptions {
  const { quantization, visionQuantization, activations } = options
  return {
    ...(quantization && { quantization }),
    ...(visionQuantization && { visionQuantization }),
    ...(activations && { activations }),
  }
}
