// Panels that run models on a text: a reader's own, and that of a document.
import { Problem, characterTokens, element, figure, inPanel, percent, request, segment, shade, texts, visible } from "./page.js";
import { knockOut } from "./knockout.js";

export function startTexts() {
  for (const panel of document.querySelectorAll("[data-encode][data-feature]")) onSubmit(panel, (fields) => showFeature(panel, fields.get("text")));
  for (const panel of document.querySelectorAll("[data-document]")) {
    const shown = panel.querySelector("[data-text]");
    const original = shown.textContent;
    onSubmit(panel, (fields) => showTokens(panel, panel.dataset.document, shown, original, Number(fields.get("layer"))));
  }
  for (const panel of document.querySelectorAll("[data-try]")) onSubmit(panel, (fields) => tryText(panel, fields.get("text"), Number(fields.get("layer"))));
}

function onSubmit(panel, work) {
  const form = panel.querySelector("[data-form]");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    inPanel(panel, () => work(new FormData(form)));
  });
}

async function encode(address, text, options) {
  const { content } = await request(address, { body: { texts: [text], pooling: "none", ...options } });
  return content.items[0];
}

/** Of two parts of a character: every feature with the larger of its activations, strongest first. */
function strongest(a, b) {
  const features = new Map();
  for (const active of [...a.features, ...b.features]) {
    const name = `${active.layer}:${active.feature}`;
    if (!(features.get(name)?.activation >= active.activation)) features.set(name, active);
  }
  return { ...a, features: [...features.values()].sort((first, second) => second.activation - first.activation) };
}

async function showFeature(panel, text) {
  const { layer, feature } = panel.dataset;
  const encoded = await encode(panel.dataset.encode, text, { layers: [Number(layer)], features: [Number(feature)] });
  const values = encoded.tokens.map((token) => token.features[0]?.activation ?? 0);
  const largest = Math.max(...values, 0);
  const tokens = characterTokens(encoded.tokens, strongest);
  panel.querySelector("[data-result]").replaceChildren(
    ...(largest ? [] : [element("p", {}, texts.silent)]),
    element("div", { class: "whole" }, tokens.map((token) => {
      const activation = token.features[0]?.activation ?? 0;
      return element("mark", { class: shade(activation, largest), title: figure(activation) }, visible(token.token));
    })),
    element("p", {}, `${texts.predicted}: ${encoded.predicted}`, encoded.truncated ? ` · ${texts.truncated}` : ""),
  );
}

/** Tokens of a text, shaded by their strongest feature of a layer; the chosen one lists its features. */
async function showTokens(panel, page, place, text, layer) {
  const encoded = await encode(panel.dataset.encode ?? `/v1${page}/encode`, text, { layers: [layer], top: 8 });
  const tokens = characterTokens(encoded.tokens, strongest);
  const largest = Math.max(...tokens.map((token) => token.features[0]?.activation ?? 0), 0);
  const list = element("div", { "aria-live": "polite" }, element("p", {}, texts.hover));
  const choose = (event, token) => {
    for (const other of place.querySelectorAll("[aria-pressed]")) other.setAttribute("aria-pressed", "false");
    event.currentTarget.setAttribute("aria-pressed", "true");
    list.replaceChildren(element("p", {}, `「${visible(token.token).trim()}」`), element("ul", { class: "ticks" }, token.features.map((active) => element("li", {},
      element("label", {}, element("input", { type: "checkbox", value: `${active.layer}:${active.feature}`, onchange: (change) => tick(change.target) }),
        " ", element("a", { class: "feature", href: `${page}/layers/${active.layer}/features/${active.feature}` }, `${active.layer}:${active.feature}`), ` ${figure(active.activation, 2)}`)))));
    for (const box of list.querySelectorAll("input")) box.checked = ticked.has(box.value);
  };
  const ticked = new Set();
  const without = element("button", { type: "button", hidden: true }, texts.without);
  const outcome = element("div");
  const tick = (box) => {
    if (box.checked) ticked.add(box.value);
    else ticked.delete(box.value);
    without.hidden = !ticked.size;
    without.textContent = `${texts.without}: ${[...ticked].join(", ")}`;
  };
  without.addEventListener("click", () => inPanel(panel, () => showWithout(page, panel, text, ticked, outcome)));
  place.classList.add("whole");
  place.replaceChildren(...tokens.map((token) => element("span", {
    class: `read-token ${shade(token.features[0]?.activation ?? 0, largest)}`, tabindex: 0, role: "button", "aria-pressed": "false",
    title: token.features.slice(0, 3).map((active) => `${active.layer}:${active.feature} ${figure(active.activation, 2)}`).join("\n"),
    onclick: (event) => choose(event, token), onmouseenter: (event) => choose(event, token), onfocus: (event) => choose(event, token),
  }, visible(token.token))));
  panel.querySelector("[data-result]").replaceChildren(list, without, element("progress", { "data-progress": true, hidden: true }), outcome);
  return encoded;
}

/** The prediction of a text with the ticked features ablated. */
async function showWithout(page, panel, text, ticked, place) {
  const features = [...ticked].map((name) => {
    const [layer, feature] = name.split(":").map(Number);
    return { layer, feature };
  });
  panel.dataset.knockout = `/v1${page}/knockouts`;
  const { result } = await knockOut(panel, { texts: [text], features, draws: 0, details: "predictions" });
  const [outcome] = result.outcomes ?? [];
  if (!outcome) throw new Problem(texts.failed);
  place.replaceChildren(element("p", { class: "verdict" },
    outcome.before === outcome.after ? texts.no_change : `${outcome.before} → ${outcome.after}`,
    ` ${texts.probability}: ${percent(outcome.probability_before)} → ${percent(outcome.probability_after)}`));
}

async function tryText(panel, text, layer) {
  const { content } = await request(`${panel.dataset.try}/classify`, { body: { texts: [text] } });
  const [classification] = content.items;
  const best = [...classification.labels].sort((a, b) => b.probability - a.probability).slice(0, 5);
  const result = panel.querySelector("[data-result]");
  const shown = element("div", { class: "post", lang: "ja" });
  const part = element("div", { "data-result": true });
  result.replaceChildren(
    element("p", { class: "verdict" }, `${texts.predicted}: `, element("a", { href: `${panel.dataset.page}/labels/${segment(classification.predicted)}` }, classification.predicted), ` (${percent(classification.probability)})`),
    element("table", {}, element("tbody", {}, best.map((row) => element("tr", {}, element("td", {}, row.label), element("td", { class: "number" }, percent(row.probability)))))),
    classification.truncated ? element("p", {}, texts.truncated) : "",
    shown, part);
  const inner = { dataset: panel.dataset, querySelector: (selector) => (selector === "[data-result]" ? part : result.querySelector(selector) ?? panel.querySelector(selector)),
    setAttribute: () => {}, removeAttribute: () => {} };
  await showTokens(inner, panel.dataset.page, shown, text, layer);
}
