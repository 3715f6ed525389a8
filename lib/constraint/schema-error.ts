/** What is said of a schema that cannot be followed. */
import { SchemaError } from '../errors.js'

/** @param message what is wrong, and the way out */
export function schemaError(path: string, message: string): SchemaError {
  return new SchemaError(`The schema at ${path} ${message}`, { details: { schemaPath: path } })
}

/** The pointer of a keyword or name below another. */
export function below(path: string, ...keys: readonly (string | number)[]): string {
  const escaped = keys.map((key) => String(key).replaceAll('~', '~0').replaceAll('/', '~1'))
  return [path, ...escaped].join('/')
}
