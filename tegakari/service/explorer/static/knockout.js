// Knockout panels: the form becomes a job of the API, whose progress is followed until its result is shown.
import { Problem, element, inPanel, part, percent, request, svg, texts } from "./page.js";

const CURVE = [1, 2, 5, 10, 20, 50];
const MAX_K = 512; // of the search for the smallest set

export function startKnockouts() {
  for (const panel of document.querySelectorAll("[data-knockout]")) {
    const form = panel.querySelector("[data-form]");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      inPanel(panel, async () => showKnockout(panel, await knockOut(panel, settingsOf(panel, form))));
    });
    for (const [name, work] of [["curve", showCurve], ["smallest", showSmallest]]) {
      form.querySelector(`[data-${name}]`)?.addEventListener("click", () => inPanel(panel, () => work(panel, settingsOf(panel, form))));
    }
  }
}

function settingsOf(panel, form) {
  if (panel.dataset.settings) return JSON.parse(panel.dataset.settings);
  const fields = new FormData(form);
  return {
    label: panel.dataset.label,
    layer: Number(fields.get("layer")),
    k: Number(fields.get("k")),
    mode: fields.get("mode"),
    positions: fields.get("positions"),
    draws: 5,
    details: "predictions",
  };
}

/** A knockout that is done; the panel shows its progress and a button that cancels it. */
export async function knockOut(panel, settings) {
  const started = await request(`${panel.dataset.knockout}?wait=0`, { body: settings });
  if (started.status === 200) return started.content;
  const progress = panel.querySelector("[data-progress]");
  const cancel = element("button", { type: "button", onclick: () => request(started.location, { method: "DELETE" }) }, texts.cancel);
  progress.after(cancel);
  progress.hidden = false;
  try {
    await followed(started.location, progress);
    const { content: job } = await request(started.location);
    if (job.state === "done") return job;
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

/** Puts the page of a knockout into the panel. */
async function showKnockout(panel, job) {
  panel.querySelector("[data-result]").replaceChildren(await part(`/knockouts/${job.id}`));
}

const mean = (values) => (values?.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null);

const halves = ({ result }) => result.beyond_control && result.recall_after <= result.recall_before / 2;

async function showCurve(panel, settings) {
  const tried = new Map();
  for (const k of CURVE) if (!(await tryK(panel, settings, tried, k))) break;
}

/** Doubles k until recall is halved beyond its control, then halves the gap to the largest k that did not. */
async function showSmallest(panel, settings) {
  const tried = new Map();
  let below = 0;
  let k = 1;
  while (k <= MAX_K && (await tryK(panel, settings, tried, k)) && !halves(tried.get(k))) [below, k] = [k, 2 * k];
  const reached = tried.has(k) && halves(tried.get(k));
  while (reached && k - below > 1) {
    const middle = Math.floor((below + k) / 2);
    await tryK(panel, settings, tried, middle);
    if (halves(tried.get(middle))) k = middle;
    else below = middle;
  }
  const job = tried.get(k);
  const sentence = reached
    ? texts.smallest.replace("{before}", percent(job.result.recall_before)).replace("{k}", k).replace("{recall}", percent(job.result.recall_after))
    : texts.smallest_none;
  panel.querySelector("[data-result]").prepend(element("p", { class: "verdict" }, sentence));
  if (reached) panel.querySelector("[data-result]").append(await part(`/knockouts/${job.id}`));
}

/** Knocks k features out and shows all that were tried; false if the layer has fewer. */
async function tryK(panel, settings, tried, k) {
  try {
    tried.set(k, await knockOut(panel, { ...settings, k }));
  } catch (error) {
    if (tried.size && error instanceof Problem) return false;
    throw error;
  }
  const points = [...tried].sort(([a], [b]) => a - b);
  panel.querySelector("[data-result]").replaceChildren(chart(points), table("tried",
    ["k", texts.recall, texts.density_control, texts.beyond_control],
    points.map(([number, { id, result }]) => [
      element("a", { href: `/knockouts/${id}` }, String(number)),
      percent(result.recall_after),
      percent(mean(result.density_control?.recalls) ?? NaN),
      result.beyond_control ? texts.yes : texts.no,
    ])));
  return true;
}

function table(kind, names, rows) {
  return element("table", { class: kind }, element("thead", {}, element("tr", {}, names.map((name) => element("th", { scope: "col", class: "number" }, name)))),
    element("tbody", {}, rows.map((row) => element("tr", {}, row.map((cell) => element("td", { class: "number" }, cell))))));
}

function chart(points) {
  const last = Math.max(points.at(-1)[0], 2);
  const x = (k) => 40 + (Math.log(k) / Math.log(last)) * 300;
  const y = (recall) => 10 + (1 - recall) * 140;
  const line = (name, value) => svg("polyline", { class: name, points: points.map(([k, { result }]) => `${x(k)},${y(value(result))}`).join(" ") });
  return svg("svg", { class: "chart", viewBox: "0 0 360 190", role: "img", "aria-label": `${texts.recall}: ${points.map(([k, { result }]) => `${k}: ${percent(result.recall_after)}`).join(", ")}` },
    ...[0, 0.5, 1].flatMap((share) => [svg("line", { class: "axis", x1: 40, x2: 340, y1: y(share), y2: y(share) }), text(30, y(share) + 4, String(share), "end")]),
    ...points.map(([k]) => text(x(k), 170, String(k), "middle")), text(190, 186, texts.k, "middle"),
    line("line control", (result) => mean(result.density_control?.recalls) ?? result.recall_before), line("line", (result) => result.recall_after),
    ...points.map(([k, { result }]) => svg("circle", { class: "point", cx: x(k), cy: y(result.recall_after), r: 3 })));
}

function text(x, y, content, anchor) {
  return svg("text", { x, y, "text-anchor": anchor }, content);
}
