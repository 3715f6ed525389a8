/** Finds what was meant by a misspelt name. */

/**
 * The known name nearest to `name`, or `undefined` when none is near enough to be what was meant.
 * Spellings that differ in case, `_` or `-` alone count as equal; otherwise the distance (insertions,
 * deletions, substitutions, swaps of neighbours) may be a third of the name's length.
 */
export function nearestName(name: string, known: readonly string[]): string | undefined {
  const wanted = fold(name.slice(0, 64))
  let best: string | undefined
  let bestDistance = Math.floor(wanted.length / 3) + 1
  for (const candidate of known) {
    const distance = editDistance(wanted, fold(candidate))
    if (distance < bestDistance) {
      best = candidate
      bestDistance = distance
    }
  }
  return best
}

function fold(name: string): string {
  return name.replace(/[-_\s]/g, '').toLowerCase()
}

/** Optimal string alignment distance (Damerau-Levenshtein without edits between swapped letters). */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1]
      let distance = Math.min(at(last, j) + 1, at(row, j - 1) + 1, at(last, j - 1) + (same ? 0 : 1))
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        distance = Math.min(distance, at(beforeLast, j - 2) + 1)
      }
      row.push(distance)
    }
    beforeLast = last
    last = row
  }
  return at(last, b.length)
}

function at(row: readonly number[], index: number): number {
  return row[index] ?? Infinity
}
