/** The formats of strings in JSON Schema that are regular, as patterns for the whole string. */

const day = '(?:0[1-9]|[12]\\d|3[01])'
const leapYear = '(?:\\d\\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)'
const date =
  `(?:\\d{4}-(?:(?:0[13578]|1[02])-${day}|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|02-(?:0[1-9]|1\\d|2[0-8]))` +
  `|${leapYear}-02-29)`
const time =
  '(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,9})?(?:Z|[+-](?:[01]\\d|2[0-3]):[0-5]\\d)'

/** Shorter than they may be, so that nine of them are no longer than a name may be. */
const label = '[A-Za-z0-9](?:[A-Za-z0-9-]{0,22}[A-Za-z0-9])?'
/** The last label begins with a letter, so that it is not taken for a number of an address. */
const topLabel = '[A-Za-z](?:[A-Za-z0-9-]{0,22}[A-Za-z0-9])?'
const hostname = `(?:${label}\\.){0,8}${topLabel}`
const byte = '(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)'
const group = '[0-9A-Fa-f]{1,4}'

const pathChar = "(?:[A-Za-z0-9\\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})"
const tail = `(?:\\?(?:${pathChar}|[/?])*)?(?:#(?:${pathChar}|[/?])*)?`
const authority = `//(?:${hostname}|${byte}(?:\\.${byte}){3})(?::\\d{1,4})?(?:/${pathChar}*)*`

const patterns: Readonly<Record<string, string>> = {
  date,
  time,
  'date-time': `${date}T${time}`,
  duration:
    'P(?:\\d{1,6}W|(?:\\d{1,6}Y(?:\\d{1,6}M(?:\\d{1,6}D)?)?|\\d{1,6}M(?:\\d{1,6}D)?|\\d{1,6}D)' +
    '(?:T(?:\\d{1,6}H(?:\\d{1,6}M(?:\\d{1,6}S)?)?|\\d{1,6}M(?:\\d{1,6}S)?|\\d{1,6}S))?' +
    '|T(?:\\d{1,6}H(?:\\d{1,6}M(?:\\d{1,6}S)?)?|\\d{1,6}M(?:\\d{1,6}S)?|\\d{1,6}S))',
  // Without limits on lengths, which would have to be counted beside a pattern of a library's own.
  email:
    '[A-Za-z0-9_+-]+(?:\\.[A-Za-z0-9_+-]+)*@(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\\.)+[A-Za-z]{2,}',
  hostname,
  ipv4: `${byte}(?:\\.${byte}){3}`,
  ipv6:
    `(?:(?:${group}:){7}${group}|(?:${group}:){1,7}:|(?:${group}:){1,6}:${group}` +
    `|(?:${group}:){1,5}(?::${group}){1,2}|(?:${group}:){1,4}(?::${group}){1,3}` +
    `|(?:${group}:){1,3}(?::${group}){1,4}|(?:${group}:){1,2}(?::${group}){1,5}` +
    `|${group}:(?::${group}){1,6}|:(?:(?::${group}){1,7}|:))`,
  uri: `(?:(?:https?|ftp|wss?):${authority}${tail}|(?:mailto|urn|tel|data):${pathChar}+${tail})`,
  uuid: '[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[1-8][0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}',
}

/** The pattern of a format, without anchors. */
export function formatPattern(format: string): string | undefined {
  return Object.hasOwn(patterns, format) ? patterns[format] : undefined
}

/** The formats that are known. */
export const formatNames: readonly string[] = Object.keys(patterns)
