/** JSON as Python's `json.dumps(value, ensure_ascii=False)` writes it, which is what models were shown. */

/** @param value plain JSON data */
export function pythonJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(pythonJson).join(', ')}]`
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value)
    return `{${entries.map(([key, entry]) => `${JSON.stringify(key)}: ${pythonJson(entry)}`).join(', ')}}`
  }
  return typeof value === 'number' ? pythonNumber(value) : JSON.stringify(value)
}

/** Python writes an exponent from 1e-5 on, and with two digits. */
function pythonNumber(value: number): string {
  const isSmall = value !== 0 && Math.abs(value) < 1e-4
  return (isSmall ? value.toExponential() : String(value)).replace(/e([+-])(\d)$/, 'e$10$2')
}
