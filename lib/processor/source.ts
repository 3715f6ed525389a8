/** Where an image comes from: every accepted kind of source, turned into encoded bytes or raw pixels. */

/** Decoded pixels, rows from top to bottom, `channels` interleaved samples of 8 bits each. */
export interface RawPixels {
  /** `width * height * channels` bytes. Must not be changed until the request has been prepared. */
  data: Uint8Array | Uint8ClampedArray
  width: number
  height: number
  /** 1: grey, 2: grey and alpha (ignored), 3: RGB, 4: RGB and alpha (composited on white). */
  channels: 1 | 2 | 3 | 4
}

/**
 * An image: a path; a `file:` or `data:` URL as string or `URL` (also `data:image;base64,...`); the
 * bytes of an image file; or {@link RawPixels}.
 */
export type ImageSource = string | URL | Uint8Array | ArrayBuffer | RawPixels
