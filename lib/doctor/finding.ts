/** What the doctor says about one thing. */

/**
 * `ok`: works. `unused`: is not there, and nothing is wrong with that. `warning`: something that may be wanted does not
 * work. `error`: no model can answer, or pictures cannot be read.
 */
export type Status = 'ok' | 'unused' | 'warning' | 'error'

/** One thing that was looked at. */
export interface Finding {
  topic: string
  status: Status
  /** In one line. */
  summary: string
  /** What to do about it. */
  remedy?: string
  /** What was found, as data. */
  facts: Readonly<Record<string, unknown>>
}

/** Everything that was looked at. */
export interface Diagnosis {
  /** Whether the package can do its work: no finding is an error. */
  healthy: boolean
  version: string
  findings: Finding[]
}
