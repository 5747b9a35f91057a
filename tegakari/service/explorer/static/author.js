// The field with the name of the reader, which the browser remembers where the service has no keys.
const AUTHOR = "tegakari-author";

export function fillAuthor(field) {
  if (!field.readOnly) field.value = storage()?.getItem(AUTHOR) ?? "";
}

export function keepAuthor(field) {
  if (!field.readOnly) storage()?.setItem(AUTHOR, field.value.trim());
}

/** Storage of the browser; null where the reader has switched it off. */
function storage() {
  try {
    return localStorage;
  } catch {
    return null;
  }
}
