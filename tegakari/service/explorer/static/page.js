// What all modules share: texts in the page's language, requests to the API, elements made of text alone.

export const texts = JSON.parse(document.body.dataset.texts);

/** An element with attributes and children; a child that is a string becomes text, never HTML. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

export function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** A failed request, with the text of the problem document. */
export class Problem extends Error {}

/** The JSON of an API's response and its status; a failure becomes a Problem. */
export async function request(address, { body, method = body ? "POST" : "GET", signal } = {}) {
  const response = await fetch(address, {
    method,
    signal,
    headers: { Accept: "application/json", ...(body ? { "Content-Type": "application/json" } : {}) },
    body: body ? JSON.stringify(body) : undefined,
  });
  const content = await response.json();
  if (!response.ok) {
    throw new Problem([content.field ? `${content.field}: ` : "", content.detail, content.fix ? ` (${content.fix})` : ""].join(""));
  }
  return { status: response.status, location: response.headers.get("Location"), content };
}

/** A name as a segment of a path, as tegakari/schemas/segments.py writes it: browsers would resolve "." and "..". */
export const segment = (name) => {
  if (/^\.{1,2}$/.test(name)) return encodeURIComponent(name.replaceAll(".", "%2E"));
  return encodeURIComponent(/^(%(25)*2E){1,2}$/i.test(name) ? encodeURIComponent(name) : name);
};

/** The part of another page that stands in this one. */
export async function part(address) {
  const response = await fetch(address, { headers: { Accept: "text/html" } });
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  const included = page.querySelector("[data-included]");
  if (!response.ok || !included) throw new Problem(page.querySelector("[role=alert]")?.textContent ?? response.statusText);
  return included;
}

export const figure = (value, digits = 3) => (value === null || value === undefined ? "–" : value.toFixed(digits).replace("-", "−"));

export const percent = (value) => `${figure(100 * value, 1)} %`;

/** Class of the shading of a token. */
export const shade = (activation, largest) => `shade-${largest > 0 ? Math.round(Math.min(Math.max(activation / largest, 0), 1) * 10) : 0}`;

/** A token as it is shown. */
export const visible = (text) => text.replaceAll("\r\n", "⏎\n").replaceAll(/(?<!⏎)\n/g, "⏎\n");

/** Tokens without special ones; parts of one character are one token with the strongest of their figures. */
export function characterTokens(tokens, merge) {
  const merged = [];
  for (const token of tokens.filter((one) => !one.special)) {
    const last = merged.at(-1);
    if (last && token.start === last.start && token.end === last.end && token.end > token.start) merged[merged.length - 1] = merge(last, token);
    else merged.push(token);
  }
  return merged;
}

/** Runs work for a panel: its state is shown, a failure becomes a sentence in it. */
export async function inPanel(panel, work) {
  const state = panel.querySelector("[data-state]");
  state.className = "";
  state.textContent = `${texts.running} …`;
  panel.setAttribute("aria-busy", "true");
  try {
    await work();
    state.textContent = "";
  } catch (error) {
    state.className = error.name === "AbortError" ? "" : "warning";
    state.textContent = error.name === "AbortError" ? texts.cancelled : error instanceof Problem ? error.message : `${texts.failed}: ${error.message}`;
  } finally {
    panel.removeAttribute("aria-busy");
  }
}
