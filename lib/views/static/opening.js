// Opening a case in a viewer: a link to OHIF if the case is in a PACS, otherwise the names for Slicer.

import { h } from "mdal/dom.js";

export function opening({ study, ids }) {
  if (study) {
    const address = `/ohif/monai-label?StudyInstanceUIDs=${encodeURIComponent(study)}`;
    return [h("p", {}, h("a", { class: "button", href: address, target: "_blank", rel: "noopener" }, "Open in OHIF"))];
  }
  return [h("details", {}, h("summary", {}, "Names of this case for 3D Slicer and other clients"),
    h("ul", { class: "ids" }, ids.map(id => h("li", {}, h("code", {}, id), " ", copying(id)))))];
}

function copying(text) {
  const button = h("button", { "aria-label": `Copy ${text}` }, "Copy");
  button.addEventListener("click", async () => {
    if (!navigator.clipboard) {  // browsers offer it only over TLS and on this computer
      getSelection().selectAllChildren(button.previousElementSibling);
      return;
    }
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  });
  return button;
}
