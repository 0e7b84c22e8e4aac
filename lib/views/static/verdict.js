// The verdict on the plan: a sign, a sentence, and what to do.

import { h } from "mdal/dom.js";

const SIGNS = { usable: ["\u2713", "good"], care: ["!", "doubt"], unreliable: ["\u2717", "bad"], none: ["?", "doubt"] };

export function verdict({ level, sentence, action }, more = null) {
  const [sign, kind] = SIGNS[level];
  return h("p", { class: "verdict" }, h("span", { class: `light ${kind}`, "aria-hidden": "true" }, sign),
    ` ${sentence} ${action}`, more);
}
