/** Where a JSON object ends in a text that goes on. */

/** The index behind the object with which `text` begins; undefined while it is not complete, or not one. */
export function objectEnd(text: string): number | undefined {
  const begin = text.search(/\S/)
  if (text[begin] !== '{') return undefined
  let depth = 0
  for (const { 0: found, index } of text.slice(begin).matchAll(stringOrBracket)) {
    if (found === '{' || found === '[') ++depth
    if (found === '}' || found === ']') --depth
    if (depth === 0) return begin + index + 1
  }
  return undefined
}

/** A string, maybe without its end, or a bracket outside of strings. */
const stringOrBracket = /"(?:[^"\\]|\\.)*"?|[{}[\]]/gs
