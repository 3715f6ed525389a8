/** Bounds what images and videos of all requests together take of memory. */
import { availableParallelism } from 'node:os'
import { receiveImage, type PrepareContext } from '../processor/image.js'
import { arrivesSlowly, type ImageSource } from '../processor/source.js'
import { Limiter } from './limiter.js'

/** Images that may be on their way at once, each of up to `maxImageBytes`. */
const MAX_RECEIVING = 32

/** Places for images and videos. Those that others send have more, so that they do not hold up the rest. */
export class MediaPlaces {
  readonly #working: Limiter
  readonly #receiving: Limiter

  constructor(working = Math.min(4, availableParallelism()), receiving = MAX_RECEIVING) {
    this.#working = new Limiter(working)
    this.#receiving = new Limiter(receiving)
  }

  /** Works in a place when one is free. */
  run<T>(work: () => Promise<T>): Promise<T> {
    return this.#working.run(work)
  }

  /** Works on an image in a place, once its bytes have come. */
  runImage<T>(
    image: ImageSource,
    context: PrepareContext,
    work: (image: ImageSource) => Promise<T>,
  ): Promise<T> {
    if (!arrivesSlowly(image)) return this.run(() => work(image))
    // The other place is kept while the bytes wait to be decoded: they take memory.
    return this.#receiving.run(async () => {
      const received = await receiveImage(image, context)
      return this.run(() => work(received))
    })
  }
}
