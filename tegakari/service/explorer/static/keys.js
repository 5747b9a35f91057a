// Keyboard: "/" goes to the search, "j" and "k" select rows, "[" and "]" follow the links that name them; what scrolls
// sideways can be reached.

const isTyping = (element) => element.closest("input, textarea, select, [contenteditable]") !== null;

export function startKeys() {
  for (const region of document.querySelectorAll(".wide")) regions.observe(region);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
    if (event.key === "j" || event.key === "k") {
      selectRow(event.key === "j" ? 1 : -1);
    } else {
      const element = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
      if (!element) return;
      if (element.matches("a")) element.click();
      else element.focus();
    }
    event.preventDefault();
  });
}

/** A region that scrolls and has no link is a stop of the tab key, so that arrow keys scroll it. */
const regions = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (target.scrollWidth > target.clientWidth && !target.querySelector("a, input, button")) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});

function selectRow(step) {
  const rows = [...document.querySelectorAll("table[data-rows] tbody tr")].filter((row) => row.querySelector("a"));
  if (!rows.length) return;
  const selected = rows.findIndex((row) => row.contains(document.activeElement));
  const row = rows[Math.min(Math.max(selected + step, 0), rows.length - 1)];
  row.querySelector("a").focus();
  row.scrollIntoView({ block: "nearest" });
}
