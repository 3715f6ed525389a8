/** Numbers between bounds, as grammars over their digits. */
import { alt, chars, empty, never, optional, repeat, seq, text, type Expr } from './expression.js'

/** A bound of a number. */
export interface Bound {
  value: number
  exclusive: boolean
}

/** Bounds of a number; none where one is absent. */
export interface Bounds {
  min?: Bound | undefined
  max?: Bound | undefined
}

const digit = digits(0, 9)

/** Digits that JavaScript needs to write any number below 1e21, or a fraction, out in full. */
const MAX_WHOLE_DIGITS = 21
const MAX_FRACTION_DIGITS = 25

/** Whole numbers without fraction or exponent, within what JavaScript can count exactly. */
export function integerExpr({ min, max }: Bounds): Expr {
  const lowest = Math.max(lowestInteger(min), -Number.MAX_SAFE_INTEGER)
  const highest = Math.min(highestInteger(max), Number.MAX_SAFE_INTEGER)
  if (lowest > highest) return never
  const [low, high] = [BigInt(lowest), BigInt(highest)]
  const negative = low < 0n ? naturals(high < 0n ? -high : 1n, -low) : never
  return alt(seq(text('-'), negative), high < 0n ? never : naturals(low < 0n ? 0n : low, high))
}

function lowestInteger(min: Bound | undefined): number {
  if (!min) return -Infinity
  const least = Math.ceil(min.value)
  return min.exclusive && least === min.value ? least + 1 : least
}

function highestInteger(max: Bound | undefined): number {
  if (!max) return Infinity
  const most = Math.floor(max.value)
  return max.exclusive && most === max.value ? most - 1 : most
}

/**
 * Numbers in any of JSON's forms; between bounds, or with a limited fraction, those without exponent.
 *
 * @param fractionDigits at most so many digits behind the point
 */
export function numberExpr({ min, max }: Bounds, fractionDigits?: number): Expr {
  if (!min && !max && fractionDigits === undefined) return seq(optional(text('-')), anyNumber)
  const places = fractionDigits ?? MAX_FRACTION_DIGITS
  // With more digits in all, a check by division would find the last ones rounded.
  const wholeDigits = fractionDigits === undefined ? MAX_WHOLE_DIGITS : Math.max(1, 12 - places)
  const size = { places, wholeDigits }
  const zero: Bound = { value: 0, exclusive: false }
  const least = min && min.value >= 0 ? min : zero
  const positive = max && max.value < 0 ? never : positives(least, max, size)
  if (min && min.value >= 0) return positive
  const nearest = max && max.value < 0 ? negated(max) : { value: 0, exclusive: true }
  return alt(seq(text('-'), positives(nearest, min && negated(min), size)), positive)
}

const negated = ({ value, exclusive }: Bound): Bound => ({ value: -value, exclusive })

const fraction = seq(text('.'), repeat(digit, 1, MAX_FRACTION_DIGITS))
/** Up to 307, so that no number is infinite. */
const exponent = alt(
  seq(optional(text('+')), alt(naturals(0n, 307n))),
  seq(text('-'), naturals(0n, 324n)),
)
const anyNumber = alt(
  seq(naturals(0n, 10n ** BigInt(MAX_WHOLE_DIGITS) - 1n), optional(fraction)),
  seq(digits(1, 9), optional(fraction), alt(text('e'), text('E')), exponent),
)

/** A non-negative number's digits before and behind the point. */
interface Decimal {
  whole: bigint
  fraction: string
  exclusive: boolean
}

function decimalOf({ value, exclusive }: Bound): Decimal {
  const [digitsOf = '', exponentOf = '0'] = String(value).split('e')
  const [whole = '', part = ''] = digitsOf.split('.')
  const shift = Number(exponentOf)
  const all = `${'0'.repeat(Math.max(0, -shift))}${whole}${part}${'0'.repeat(Math.max(0, shift))}`
  const point = Math.max(0, -shift) + whole.length + shift
  return {
    whole: BigInt(all.slice(0, point) || '0'),
    fraction: all.slice(point).replace(/0+$/, ''),
    exclusive,
  }
}

/** From a number that is not negative. */
function positives(
  min: Bound,
  max: Bound | undefined,
  { places, wholeDigits }: { places: number; wholeDigits: number },
): Expr {
  if (max && max.value < min.value) return never
  const low = decimalOf(min)
  const high = max && decimalOf(max)
  if (high && high.whole === low.whole) {
    return withFraction(low.whole, between(low, high, places))
  }
  const last = high ? high.whole - 1n : 10n ** BigInt(wholeDigits) - 1n
  return alt(
    withFraction(low.whole, atLeast(low, places)),
    low.whole < last ? seq(naturals(low.whole + 1n, last), point(any(places))) : never,
    high ? withFraction(high.whole, atMost(high, places)) : never,
  )
}

function withFraction(whole: bigint, tail: Tail): Expr {
  return seq(text(String(whole)), point(tail))
}

/** What may follow among the digits behind a point: nothing, or some digits. */
interface Tail {
  isEmpty: boolean
  more: Expr
}

function point({ isEmpty, more }: Tail): Expr {
  return alt(isEmpty ? empty : never, seq(text('.'), more))
}

function rest({ isEmpty, more }: Tail): Expr {
  return isEmpty ? optional(more) : more
}

function any(places: number): Tail {
  return { isEmpty: true, more: places > 0 ? repeat(digit, 1, places) : never }
}

type Part = Pick<Decimal, 'fraction' | 'exclusive'>

const behind = ({ fraction: part, exclusive }: Part): Part => ({
  fraction: part.slice(1),
  exclusive,
})
const firstOf = ({ fraction: part }: Part) => Number(part[0] ?? 0)

function atLeast(low: Part, places: number): Tail {
  if (low.fraction === '' && !low.exclusive) return any(places)
  if (places === 0) return { isEmpty: false, more: never }
  const first = firstOf(low)
  return {
    isEmpty: false,
    more: alt(
      seq(digits(first + 1, 9), rest(any(places - 1))),
      seq(digits(first, first), rest(atLeast(behind(low), places - 1))),
    ),
  }
}

function atMost(high: Part, places: number): Tail {
  if (high.fraction === '') {
    if (high.exclusive) return { isEmpty: false, more: never }
    return { isEmpty: true, more: places > 0 ? repeat(text('0'), 1, places) : never }
  }
  if (places === 0) return { isEmpty: true, more: never }
  const first = firstOf(high)
  return {
    isEmpty: true,
    more: alt(
      seq(digits(0, first - 1), rest(any(places - 1))),
      seq(digits(first, first), rest(atMost(behind(high), places - 1))),
    ),
  }
}

function between(low: Part, high: Part, places: number): Tail {
  if (low.fraction === '' && !low.exclusive) return atMost(high, places)
  // From here on, no digits at all are too little.
  const isEmpty = false
  const [first, last] = [firstOf(low), firstOf(high)]
  const isOver = low.fraction === '' && high.fraction === ''
  if (places === 0 || first > last || isOver) return { isEmpty, more: never }
  if (first === last) {
    const tail = between(behind(low), behind(high), places - 1)
    return { isEmpty, more: seq(digits(first, first), rest(tail)) }
  }
  return {
    isEmpty,
    more: alt(
      seq(digits(first, first), rest(atLeast(behind(low), places - 1))),
      seq(digits(first + 1, last - 1), rest(any(places - 1))),
      seq(digits(last, last), rest(atMost(behind(high), places - 1))),
    ),
  }
}

/** The numbers from `low` to `high`, without leading zeros. */
function naturals(low: bigint, high: bigint): Expr {
  if (low > high) return never
  const options: Expr[] = []
  const longest = String(high).length
  for (let length = String(low).length; length <= longest; ++length) {
    const first = 10n ** BigInt(length - 1)
    const begin = String(low).length === length ? String(low) : String(first)
    const end = longest === length ? String(high) : '9'.repeat(length)
    options.push(ofLength(begin, end))
  }
  return alt(...options)
}

/** Digits between two equally long ones. */
function ofLength(low: string, high: string): Expr {
  if (low === '') return empty
  const length = low.length - 1
  if (/^0*$/.test(low) && /^9*$/.test(high)) return repeat(digit, low.length, low.length)
  const [first, last] = [Number(low[0]), Number(high[0])]
  if (first === last) return seq(text(String(first)), ofLength(low.slice(1), high.slice(1)))
  return alt(
    seq(text(String(first)), ofLength(low.slice(1), '9'.repeat(length))),
    seq(digits(first + 1, last - 1), repeat(digit, length, length)),
    seq(text(String(last)), ofLength('0'.repeat(length), high.slice(1))),
  )
}

function digits(first: number, last: number): Expr {
  return first > last ? never : chars([[48 + first, 48 + last]])
}
