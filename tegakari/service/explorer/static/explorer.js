// Starts what a page has: each module finds its own elements and does nothing where there are none.
import { startAttribution } from "./attribution.js";
import { startExplanations } from "./explanations.js";
import { startKeys } from "./keys.js";
import { startKnockouts } from "./knockout.js";
import { startTexts } from "./texts.js";
import { startNotes } from "./notes.js";
import { startParts } from "./parts.js";

startKeys();
startExplanations();
startParts();
startKnockouts();
startTexts();
startAttribution();
startNotes();
