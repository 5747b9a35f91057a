// The panel of notes on a feature: the reader's own note is filled in and sent, then the page is loaded again.
import { fillAuthor, keepAuthor } from "./author.js";
import { inPanel, request } from "./page.js";

export function startNotes() {
  for (const panel of document.querySelectorAll("[data-note]")) startPanel(panel);
}

function startPanel(panel) {
  const notes = JSON.parse(panel.dataset.notes);
  const form = panel.querySelector("[data-form]");
  const { author, starred, tags, text } = form.elements;
  const fillIn = () => {
    const own = notes.find((note) => note.author === author.value.trim());
    if (!own) return;
    starred.checked = own.starred;
    tags.value = own.tags.join(", ");
    text.value = own.text;
  };
  fillAuthor(author);
  author.addEventListener("change", fillIn);
  fillIn();
  form.hidden = false;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    inPanel(panel, async () => {
      const name = author.value.trim();
      const body = { author: name, starred: starred.checked, tags: tags.value.split(/[,、]/).map((tag) => tag.trim()).filter(Boolean), text: text.value };
      await request(panel.dataset.note, { method: "PATCH", body });
      keepAuthor(author);
      location.reload();
    });
  });
}
