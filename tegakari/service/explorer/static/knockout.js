// Knockout panels: the form becomes a job of the API, whose progress is followed until its result is shown.
import { Problem, element, figure, inPanel, percent, request, segment, svg, texts } from "./page.js";

const CURVE = [1, 2, 5, 10, 20, 50];

export function startKnockouts() {
  for (const panel of document.querySelectorAll("[data-knockout]")) {
    const form = panel.querySelector("[data-form]");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      inPanel(panel, async () => showResult(panel, await knockOut(panel, settingsOf(panel, form))));
    });
    form.querySelector("[data-curve]")?.addEventListener("click", () => inPanel(panel, () => showCurve(panel, settingsOf(panel, form))));
  }
}

function settingsOf(panel, form) {
  if (panel.dataset.feature) {
    const [layer, feature] = panel.dataset.feature.split(":").map(Number);
    return { label: panel.dataset.label, features: [{ layer, feature }], documents_of: panel.dataset.label, draws: 5 };
  }
  const fields = new FormData(form);
  return {
    label: panel.dataset.label,
    layer: Number(fields.get("layer")),
    k: Number(fields.get("k")),
    mode: fields.get("mode"),
    positions: fields.get("positions"),
    draws: 5,
  };
}

/** The result of a knockout; the panel shows its progress and a button that cancels it. */
export async function knockOut(panel, settings) {
  const started = await request(`${panel.dataset.knockout}?wait=0`, { body: settings });
  if (started.status === 200) return started.content.result;
  const progress = panel.querySelector("[data-progress]");
  const cancel = element("button", { type: "button", onclick: () => request(started.location, { method: "DELETE" }) }, texts.cancel);
  progress.after(cancel);
  progress.hidden = false;
  try {
    await followed(started.location, progress);
    const { content: job } = await request(started.location);
    if (job.state === "done") return job.result;
    if (job.state === "cancelled") throw new DOMException("", "AbortError");
    throw new Problem(job.problem ? `${job.problem.detail}${job.problem.fix ? ` (${job.problem.fix})` : ""}` : job.state);
  } finally {
    progress.hidden = true;
    cancel.remove();
  }
}

function followed(location, progress) {
  return new Promise((resolve) => {
    const source = new EventSource(`${location}/events`);
    const end = () => {
      source.close();
      resolve();
    };
    source.addEventListener("progress", (event) => {
      const job = JSON.parse(event.data);
      if (job.total) {
        progress.max = job.total;
        progress.value = job.done;
      } else progress.removeAttribute("value");
    });
    for (const state of ["done", "failed", "cancelled", "interrupted"]) source.addEventListener(state, end);
    source.addEventListener("error", end); // the job itself says how it ended
  });
}

function showResult(panel, result) {
  const rows = [
    [texts.before, result.recall_before],
    [texts.after, result.recall_after],
    [texts.control, mean(result.control?.recalls)],
    [texts.density_control, mean(result.density_control?.recalls)],
  ].filter(([, recall]) => recall !== null);
  const parts = [
    element("p", { class: result.beyond_control ? "verdict beyond" : "verdict" }, verdict(result)),
    element("div", { class: "recalls" }, rows.flatMap(([name, recall]) => [
      element("span", {}, `${texts.recall}, ${name}`),
      bar(recall),
      element("span", {}, percent(recall)),
    ])),
    element("p", {}, `${figure(result.delta, 1)} ${texts.points} (${figure(result.delta_low, 1)} – ${figure(result.delta_high, 1)})`,
      result.net ? `; ${texts.net}: ${figure(result.net.value, 1)} (${figure(result.net.low, 1)} – ${figure(result.net.high, 1)})` : "",
      `; ${texts.margin}: ${figure(result.margin.before, 2)} → ${figure(result.margin.after, 2)}`),
    element("h3", {}, texts.lost),
    result.lost.length ? table([texts.predicted, texts.documents], result.lost.map((row) => [
      element("a", { href: panel.dataset.labels + segment(row.label) }, row.label), String(row.documents)])) : element("p", {}, texts.nothing_lost),
    element("h3", {}, texts.features),
    element("p", {}, result.features.flatMap((feature) => [
      element("a", { class: "feature", href: panel.dataset.labels.replace(/labels\/$/, `layers/${feature.layer}/features/${feature.feature}`) }, `${feature.layer}:${feature.feature}`), " "])),
  ];
  panel.querySelector("[data-result]").replaceChildren(...parts);
}

const verdict = (result) => (result.beyond_control === null ? "" : result.beyond_control ? texts.beyond : texts.not_beyond);

const mean = (values) => (values?.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null);

const bar = (share) => svg("svg", { class: "share", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
  svg("rect", { width: 100, height: 8, class: "track" }), svg("rect", { width: 100 * share, height: 8, class: "bar-1" }));

function table(names, rows) {
  return element("table", {}, element("thead", {}, element("tr", {}, names.map((name, column) => element("th", { scope: "col", class: column ? "number" : null }, name)))),
    element("tbody", {}, rows.map((row) => element("tr", {}, row.map((cell, column) => element("td", { class: column ? "number" : null }, cell))))));
}

async function showCurve(panel, settings) {
  const points = [];
  for (const k of CURVE) {
    try {
      points.push([k, await knockOut(panel, { ...settings, k })]);
    } catch (error) {
      if (points.length && error instanceof Problem) break; // the layer has fewer features
      throw error;
    }
    panel.querySelector("[data-result]").replaceChildren(chart(points), table(["k", texts.recall, texts.density_control], points.map(
      ([number, result]) => [String(number), percent(result.recall_after), percent(mean(result.density_control?.recalls) ?? NaN)])));
  }
}

function chart(points) {
  const x = (k) => 40 + (Math.log(k) / Math.log(CURVE.at(-1))) * 300;
  const y = (recall) => 10 + (1 - recall) * 140;
  const line = (name, value) => svg("polyline", { class: name, points: points.map(([k, result]) => `${x(k)},${y(value(result))}`).join(" ") });
  return svg("svg", { class: "chart", viewBox: "0 0 360 190", role: "img", "aria-label": `${texts.recall}: ${points.map(([k, r]) => `${k}: ${percent(r.recall_after)}`).join(", ")}` },
    ...[0, 0.5, 1].flatMap((share) => [svg("line", { class: "axis", x1: 40, x2: 340, y1: y(share), y2: y(share) }), text(30, y(share) + 4, String(share), "end")]),
    ...points.map(([k]) => text(x(k), 170, String(k), "middle")), text(190, 186, texts.k, "middle"),
    line("line control", (result) => mean(result.density_control?.recalls) ?? result.recall_before), line("line", (result) => result.recall_after));
}

function text(x, y, content, anchor) {
  return svg("text", { x, y, "text-anchor": anchor }, content);
}
