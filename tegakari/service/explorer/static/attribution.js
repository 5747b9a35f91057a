// "Why this label": the tokens and features that the margin of a document depends on, measured by ablation.
import { characterTokens, element, figure, inPanel, percent, request, shade, texts, visible } from "./page.js";

export function startAttribution() {
  for (const panel of document.querySelectorAll("[data-attribution]")) {
    panel.querySelector("[data-form]").addEventListener("submit", (event) => {
      event.preventDefault();
      inPanel(panel, async () => {
        const { content } = await request(`/v1${panel.dataset.attribution}/attribution`, { body: { document: panel.dataset.id } });
        panel.querySelector("[data-result]").replaceChildren(...attributionContent(panel.dataset.attribution, content));
      });
    });
  }
}

function attributionContent(page, attribution) {
  const tokens = characterTokens(attribution.tokens, (a, b) => ({ ...a, strength: a.strength + b.strength }));
  const largest = Math.max(...tokens.map((token) => token.strength), 0);
  const control = attribution.control;
  return [
    element("p", { class: "verdict" }, `${attribution.label}: ${texts.margin} ${figure(attribution.margin, 2)} (${texts.runner_up}: ${attribution.runner_up})`),
    element("div", { class: "post whole", lang: "ja" }, tokens.map((token) =>
      element("mark", { class: shade(token.strength, largest), title: percent(token.strength) }, visible(token.token)))),
    element("p", {}, texts.attribution_shade),
    element("div", { class: "wide", tabindex: "0" }, element("table", { "data-rows": true },
      element("caption", {}, texts.attribution_features),
      element("thead", {}, element("tr", {}, [texts.feature, texts.margin_lost, texts.logit_lost, texts.onset, texts.best_label, texts.top_tokens].map(
        (name, place) => element("th", { scope: "col", class: place === 1 || place === 2 ? "number" : null }, name)))),
      element("tbody", {}, attribution.features.filter((feature) => feature.margin_lost > 0).slice(0, 10).map((feature) => element("tr", {},
        element("th", { scope: "row" }, element("a", { class: "feature", href: `${page}/layers/${feature.layer}/features/${feature.feature}` }, `${feature.layer}:${feature.feature}`)),
        element("td", { class: "number" }, figure(feature.margin_lost, 2)), element("td", { class: "number" }, figure(feature.logit_lost, 2)),
        element("td", {}, visible(feature.onset_token)), element("td", {}, feature.best_label ?? "–"), element("td", {}, feature.top_tokens.slice(0, 4).map(visible).join(" "))))))),
    attribution.steps.length ? element("p", {}, `${texts.greedy_set}: `, attribution.steps.map((step) => `${step.layer}:${step.feature}`).join(", "),
      ` → ${texts.margin} ${figure(attribution.steps.at(-1).margin, 2)}, ${texts.predicted} ${attribution.steps.at(-1).predicted}`,
      control ? `; ${texts.control}: ${figure(control.set_mean, 2)} ${texts.of_margin}` : "") : "",
    attribution.truncated ? element("p", {}, texts.truncated) : "",
  ];
}
