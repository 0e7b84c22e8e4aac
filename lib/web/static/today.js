// What to do now: the next case, how far the plan is, who is at what.

import { h } from "mdal/dom.js";

export const label = "Today";

export async function view(source) {
  return { title: "Today", node: h("p", {}, "…") };
}
