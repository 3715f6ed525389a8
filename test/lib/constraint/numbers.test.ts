/** Numbers between bounds: every one of them, and no other. */
import { describe, expect, it } from 'vitest'
import { GrammarBuilder } from '../../../lib/constraint/expression.js'
import { integerExpr, numberExpr, type Bounds } from '../../../lib/constraint/numbers.js'
import { matches, randomNumbers, sample } from './recognizer.js'

const grammarOf = (expr: ReturnType<typeof integerExpr>) => new GrammarBuilder().build(expr)
const bounds = (min?: number, max?: number, exclusive = false): Bounds => ({
  ...(min !== undefined && { min: { value: min, exclusive } }),
  ...(max !== undefined && { max: { value: max, exclusive } }),
})

describe('integers', () => {
  it('in random bounds are exactly those between them', () => {
    const random = randomNumbers(1)
    for (let i = 0; i < 60; ++i) {
      const size = 10 ** (1 + Math.floor(random() * 3))
      const [a, b] = [random(), random()].map((one) => Math.floor((one - 0.4) * size)) as [
        number,
        number,
      ]
      const [min, max] = [Math.min(a, b), Math.max(a, b)]
      const grammar = grammarOf(integerExpr(bounds(min, max)))
      for (const value of [
        min - 1,
        min,
        min + 1,
        0,
        max - 1,
        max,
        max + 1,
        ...Array.from({ length: 20 }, () => Math.floor((random() - 0.4) * size * 2)),
      ]) {
        expect(matches(grammar, String(value)), `${value} in ${min}..${max}`).toBe(
          value >= min && value <= max,
        )
      }
    }
  })

  it('without bounds are those that JavaScript can count', () => {
    const grammar = grammarOf(integerExpr({}))
    for (const text of ['0', '-1', '9007199254740991', '-9007199254740991'])
      expect(matches(grammar, text)).toBe(true)
    for (const text of ['9007199254740992', '-0', '01', '+1', '1.0', ''])
      expect(matches(grammar, text), text).toBe(false)
  })

  it('have whole bounds within broken ones', () => {
    const grammar = grammarOf(integerExpr(bounds(0.5, 3.5)))
    expect(['0', '1', '3', '4'].map((text) => matches(grammar, text))).toEqual([
      false,
      true,
      true,
      false,
    ])
    const open = grammarOf(integerExpr(bounds(0, 3, true)))
    expect(['0', '1', '2', '3'].map((text) => matches(open, text))).toEqual([
      false,
      true,
      true,
      false,
    ])
  })
})

describe('numbers', () => {
  it('in random bounds are exactly those between them', () => {
    const random = randomNumbers(2)
    for (let i = 0; i < 120; ++i) {
      const size = 10 ** Math.floor(random() * 4)
      const places = Math.floor(random() * 4)
      const draw = () => Number(((random() - 0.4) * size).toFixed(places))
      const [a, b] = [draw(), draw()]
      const [min, max] = [
        random() < 0.2 ? undefined : Math.min(a, b),
        random() < 0.2 ? undefined : Math.max(a, b),
      ]
      const exclusive = random() < 0.5
      const expr = numberExpr(bounds(min, max, exclusive))
      const grammar = grammarOf(expr)
      const isIn = (value: number) =>
        (min === undefined || value > min || (!exclusive && value === min)) &&
        (max === undefined || value < max || (!exclusive && value === max))
      const near = [a, b, 0].flatMap((value) => [
        value,
        value + 10 ** -places,
        value - 10 ** -places,
        value + 0.05,
      ])
      for (const value of [...near, draw(), draw(), draw()]) {
        const text = String(value)
        if (text.includes('e')) continue
        expect(matches(grammar, text), `${text} in ${min}..${max}, ${exclusive}`).toBe(isIn(value))
      }
      if (min === max && exclusive) continue
      for (let j = 0; j < 10; ++j) {
        const text = sample(grammar, random)
        expect(
          isIn(Number(text)) || text.length > 17,
          `${text} in ${min}..${max}, ${exclusive}`,
        ).toBe(true)
      }
    }
  })

  it('without bounds have any of their forms, none of them infinite', () => {
    const grammar = grammarOf(numberExpr({}))
    const values = [0, -1, 1.5, 1e21, -2.5e-7, 5e-324, 1.7e307, 123456789012345680000]
    for (const value of values) expect(matches(grammar, String(value)), String(value)).toBe(true)
    for (const text of ['1e999', '.5', '1.', '00', '1e', 'NaN', '--1'])
      expect(matches(grammar, text), text).toBe(false)
    const random = randomNumbers(3)
    for (let i = 0; i < 300; ++i)
      expect(Number.isFinite(Number(sample(grammar, random)))).toBe(true)
  })

  it('may have a limited fraction', () => {
    const grammar = grammarOf(numberExpr(bounds(0.25, 1), 2))
    const texts = ['0.25', '0.3', '0.99', '1', '1.0', '1.00', '0.24', '0.251', '1.000', '1.01']
    expect(texts.map((text) => matches(grammar, text))).toEqual([
      true,
      true,
      true,
      true,
      true,
      true,
      false,
      false,
      false,
      false,
    ])
  })
})
