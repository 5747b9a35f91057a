// Parts of a page that are loaded when they come into view, and commands that are copied with a click.
import { Problem, element, part, texts } from "./page.js";

export function startParts() {
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      observer.unobserve(entry.target);
      include(entry.target);
    }
  });
  for (const section of document.querySelectorAll("[data-include]")) observer.observe(section);
  for (const command of document.querySelectorAll("pre[data-copy]")) addCopyButton(command);
}

async function include(section) {
  try {
    section.querySelector("p").replaceWith(await part(section.dataset.include));
  } catch (error) {
    if (!(error instanceof Problem)) throw error; // else the link to the part stays
  }
}

function addCopyButton(command) {
  if (!navigator.clipboard) return;
  const button = element("button", { type: "button" }, texts.copy);
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(command.querySelector("code").textContent.replace("$SERVER", location.origin));
    button.textContent = texts.copied;
  });
  const frame = element("div", { class: "command" });
  command.replaceWith(frame);
  frame.append(command, button);
}
