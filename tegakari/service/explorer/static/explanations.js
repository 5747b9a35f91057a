// The panel of explanations of a feature: votes, and one of the reader's own; then the page is loaded again.
import { fillAuthor, keepAuthor } from "./author.js";
import { inPanel, request } from "./page.js";

export function startExplanations() {
  for (const panel of document.querySelectorAll("[data-explanations]")) startPanel(panel);
}

function startPanel(panel) {
  const form = panel.querySelector("[data-form]");
  const own = panel.querySelector("[data-own]"); // where the reader writes an explanation
  const { author, text } = form.elements;
  const send = (address, body) => inPanel(panel, async () => {
    await request(address, { body: { author: author.value.trim(), ...body } });
    keepAuthor(author);
    location.reload();
  });
  fillAuthor(author);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(panel.dataset.explanations, { text: text.value.trim() });
  });
  for (const votes of panel.querySelectorAll("[data-explanation]")) {
    for (const button of votes.querySelectorAll("[data-vote]")) {
      button.addEventListener("click", () => {
        own.open ||= !author.value;
        if (author.reportValidity()) send(`${panel.dataset.explanations}/${votes.dataset.explanation}/vote`, { value: Number(button.dataset.vote) });
      });
    }
  }
}
