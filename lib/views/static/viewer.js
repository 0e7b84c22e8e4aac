// The images of a case: every modality side by side, all at the same position in mm.

import { h } from "mdal/dom.js";
import { overlays } from "mdal/overlays.js";
import { Screen } from "mdal/screen.js";

const HINT = "Click, scroll, or use the arrow keys, Page Up and Page Down on an image: all images move together. "
  + "Drag with the right mouse button to change window and level.";
const KEYS = {
  ArrowLeft: [1, 0, 0], ArrowRight: [-1, 0, 0],  // radiological: the patient's right is on the left
  ArrowUp: [0, 1, 0], ArrowDown: [0, -1, 0],
  PageUp: [0, 0, 1], PageDown: [0, 0, -1],
};

// A still picture in place of the viewer: in a report, or if the browser has no WebGL2.
export function placeholder(source, about, sentence = null) {
  const names = about.modalities.map(({ name }) => name).join(", ");
  const image = h("img", { class: "planes", alt: `${names} in three planes` });
  source.picture(`cases/${encodeURIComponent(about.id)}/planes.jpg`)
    .then(address => { image.src = address; })
    .catch(error => image.replaceWith(h("p", { class: "problem" }, error.message)));
  return {
    node: h("section", {}, h("h2", {}, "Images"), sentence && h("p", { class: "quiet" }, sentence), image,
      h("p", { class: "quiet" }, `The patient's right is on the left. The planes go through ${through(about)}.`)),
    close: () => {},
  };
}

function through(about) {
  if (about.labels.some(({ tag }) => tag === "final")) return "the label, which is outlined";
  return about.differences.length > 0 ? "the point where the modalities differ most" : "the middle of the body";
}

export function viewer(source, about) {
  if (!document.createElement("canvas").getContext("webgl2")) {
    return placeholder(source, about, "This browser has no WebGL2, so a still picture is shown.");
  }
  const place = h("output", { class: "place" }, "Loading …");
  const progress = h("p", { role: "status", class: "quiet" }, "Loading the viewer …");
  const grid = h("div", { class: "screens axial" });
  const controls = h("div", { class: "controls" });
  const legends = h("div", { class: "legends" });
  const hint = h("p", { class: "quiet" }, HINT);
  const node = h("section", { class: "viewer" },
    h("h2", { class: "spoken" }, "Images"), controls, legends, progress, grid, hint);
  node.addEventListener("keydown", byKey, true);  // before NiiVue, which uses the keys differently
  const screens = [];
  let closed = false;
  let here = null;

  // All screens move together: each is given the position in mm, whatever its grid.
  function goTo(mm, from = null) {
    here = mm;
    place.textContent = words(mm);
    for (const screen of screens) if (screen !== from) screen.goTo(mm);
  }

  function byKey(event) {
    if (event.target.tagName !== "CANVAS") return;
    event.stopPropagation();
    if (!(event.key in KEYS)) return;
    event.preventDefault();
    move(KEYS[event.key]);
  }

  // Move by one voxel of the first image.
  function move(step) {
    if (here) goTo(here.map((mm, axis) => mm + step[axis] * screens[0].stepMm[axis]));
  }

  function moves() {
    const steps = [["Slice down", "▼", [0, 0, -1]], ["Slice up", "▲", [0, 0, 1]]];
    return steps.map(([name, sign, step]) =>
      h("button", { type: "button", "aria-label": name, title: name, onclick: () => move(step) }, sign));
  }

  function layout() {
    const three = h("input", { type: "checkbox", onchange: () => {
      grid.classList.toggle("axial", !three.checked);
      for (const screen of screens) screen.planes(three.checked);
    } });
    return h("label", {}, three, "Three planes");
  }

  async function load() {
    const kit = await import("mdal/vendor/niivue/niivue.js");  // 3 MB: loaded only when images are viewed
    for (const modality of about.modalities) {
      progress.textContent = `Loading ${modality.name} …`;
      const screen = new Screen(kit, modality, mm => goTo(mm, screen));
      grid.append(screen.node);
      try {
        const [id, name] = [about.id, modality.name].map(encodeURIComponent);
        const file = await source.bytes(`cases/${id}/images/${name}.nii.gz`);
        if (closed) return screen.close();
        await screen.show(file);
      } catch (error) {
        screen.say(error.message);
        screen.close();
        continue;
      }
      if (closed) return screen.close();
      screens.push(screen);
    }
    if (screens.length === 0) {
      progress.textContent = "No image of this case can be shown.";
      return;
    }
    progress.textContent = "";
    const over = overlays({ source, about, screens, goTo, kit });
    controls.replaceChildren(...over.controls, layout(), ...moves());
    legends.replaceChildren(over.legend, place);
    goTo(over.mostDifferent() ?? screens[0].middle);
    await over.start();
  }

  load().catch(error => { progress.textContent = `The viewer cannot be shown: ${error.message}`; });
  node.screens = screens;  // read by a test
  return {
    node,
    close: () => {
      closed = true;
      for (const screen of screens.splice(0)) screen.close();
    },
  };
}

// RAS mm in the radiologists' form, such as L 12.0.
function words(mm) {
  const sides = [["L", "R"], ["P", "A"], ["I", "S"]];
  return mm.map((value, axis) => `${sides[axis][value < 0 ? 0 : 1]} ${Math.abs(value).toFixed(1)}`).join("  ") + " mm";
}
