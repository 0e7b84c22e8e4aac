// How a case is opened in a viewer: a link to OHIF where it is in a PACS, else the names that it answers to.

import { h } from "mdal/dom.js";

export function opening({ study, ids }) {
  if (study) {
    const address = `/ohif/monai-label?StudyInstanceUIDs=${encodeURIComponent(study)}`;
    return [h("p", {}, h("a", { class: "button", href: address, target: "_blank", rel: "noopener" }, "Open in OHIF"))];
  }
  return [
    h("p", {}, "Its names, for a client that asks for one:"),
    h("ul", { class: "ids" }, ids.map(id => h("li", {}, h("code", {}, id), " ", copying(id)))),
  ];
}

function copying(text) {
  const button = h("button", { "aria-label": `Copy ${text}` }, "Copy");
  button.addEventListener("click", async () => {
    if (!navigator.clipboard) {  // browsers have it over TLS and on this computer only
      getSelection().selectAllChildren(button.previousElementSibling);
      return;
    }
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  });
  return button;
}
