// The page's frame: navigation, the current view, and error messages.

import { h } from "mdal/dom.js";
import * as caseView from "mdal/case.js";
import * as cases from "mdal/cases.js";
import * as check from "mdal/check.js";
import * as map from "mdal/map.js";
import * as model from "mdal/model.js";
import * as today from "mdal/today.js";
import * as trust from "mdal/trust.js";

const VIEWS = { today, map, cases, case: caseView, trust, model, check };

export async function start(source) {
  const main = h("main", { id: "main", tabindex: -1 });
  const links = Object.entries(VIEWS).filter(([, view]) => view.label).map(([name, view]) =>
    h("a", { href: `#${name}`, "data-view": name }, view.label));
  document.body.replaceChildren(
    h("a", { class: "skip", href: "#main", onclick: event => { event.preventDefault(); main.focus(); } }, "To the content"),
    h("header", {}, h("strong", {}, "MDAL-CIML"), h("nav", { "aria-label": "Views" }, links)),
    main,
    h("footer", {}, "MDAL and CIML as reconstructed from their abstracts. Not a medical device."));
  let close = null;
  let shown = 0;

  async function show() {
    const [name, argument] = place();
    const number = ++shown;
    close?.();
    close = null;
    for (const link of links) link.toggleAttribute("aria-current", link.dataset.view === name);
    main.replaceChildren(h("p", { role: "status" }, "Loading …"));
    let view;
    try {
      view = await VIEWS[name].view(source, argument);
    } catch (error) {
      if (number === shown) main.replaceChildren(h("h1", {}, "This cannot be shown"), h("p", { role: "alert" }, error.message));
      if (!error.status && error.status !== 0) throw error;
      return;
    }
    if (number !== shown) return view.close?.();  // the user opened another view meanwhile
    close = view.close;
    document.title = `${view.title} - MDAL-CIML`;
    main.replaceChildren(h("h1", {}, view.title), ...[view.node].flat());
  }

  addEventListener("hashchange", show);
  await show();
}

// The view in the address, and its argument: #case/STS_001.
function place() {
  const [name, ...rest] = location.hash.slice(1).split("/");
  return name in VIEWS ? [name, decodeURIComponent(rest.join("/"))] : ["today", ""];
}
