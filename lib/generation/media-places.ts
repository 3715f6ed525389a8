/** Bounds what images and videos of all requests together take of memory. */
import { availableParallelism } from 'node:os'
import { receiveImage, type PrepareContext } from '../processor/image.js'
import { arrivesSlowly, type ImageSource } from '../processor/source.js'
import { Limiter } from './limiter.js'

/** Images and videos that may be on their way at once. */
const MAX_RECEIVING = 32

/** Places for images and videos. Those that others send have more, so that they do not hold up the rest. */
export class MediaPlaces {
  readonly #working: Limiter
  readonly #receiving: Limiter

  constructor(working = Math.min(4, availableParallelism()), receiving = MAX_RECEIVING) {
    this.#working = new Limiter(working)
    this.#receiving = new Limiter(receiving)
  }

  /** Works on an image in a place, once its bytes have come. */
  runImage<T>(
    image: ImageSource,
    context: PrepareContext,
    work: (image: ImageSource) => Promise<T>,
  ): Promise<T> {
    if (!arrivesSlowly(image)) return this.#working.run(() => work(image))
    // The other place is kept while the bytes wait to be decoded: they take memory.
    return this.#receiving.run(async () => {
      const received = await receiveImage(image, context)
      return this.#working.run(() => work(received))
    })
  }

  /** Works on a video, which asks for a place itself when its bytes have come. */
  runVideo<T>(context: PrepareContext, work: (context: PrepareContext) => Promise<T>): Promise<T> {
    const inPlace: PrepareContext['inPlace'] = (part) => this.#working.run(part)
    return this.#receiving.run(() => work({ ...context, inPlace }))
  }
}
