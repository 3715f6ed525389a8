/** The markers between which Qwen2-VL writes calls of tools, and their results. */
export const marks = {
  call: '✿FUNCTION✿',
  args: '✿ARGS✿',
  result: '✿RESULT✿',
  return: '✿RETURN✿',
} as const

/** What an answer with calls ends before: the rest is the caller's to write. */
export const toolStops = [marks.result, marks.return] as const
