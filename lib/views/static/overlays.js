// Overlays on the images: labels, maps of where modalities differ, contributions of the modalities.

import { h, s } from "mdal/dom.js";
import { signed } from "mdal/format.js";

const OUTLINED = { R: [0, 0], G: [0, 229], B: [0, 255] };
const HEAT = {  // transparent below the coloured range
  R: [0, 150, 255, 255], G: [0, 0, 110, 240], B: [0, 60, 0, 120], A: [0, 110, 190, 230], I: [0, 1, 128, 255],
};
const TENTH = -(0.1 * Math.log(0.1) + 0.9 * Math.log(0.9));  // entropy of a probability of 10 % in nats
const MEASURES = { attention: "attention to the sender", kl: "information in the message" };

// Controls for the overlays of every screen; one is shown at a time.
export function overlays({ source, about, screens, goTo, kit }) {
  const files = new Map();  // path -> promise of its bytes
  const message = h("p", { role: "status", class: "quiet" });
  const legend = h("div", { class: "legend" });
  const opacity = h("input", { type: "range", min: 0, max: 1, step: 0.05, value: 0.6, oninput: () => draw() });
  const outlined = h("input", { type: "checkbox", checked: true, onchange: () => choose(chosen) });
  const choices = found(about);
  const maps = choices.filter(({ map }) => map);
  kit.cmapper.addColormap("heat", HEAT);
  let chosen = null;
  let asked = 0;

  function draw() {
    for (const screen of screens) screen.opacity(Number(opacity.value));
  }

  const bytes = path => {
    if (!files.has(path)) {
      const loading = source.bytes(path);
      loading.catch(() => files.delete(path));
      files.set(path, loading);
    }
    return files.get(path);
  };

  async function choose(choice) {
    const number = ++asked;
    chosen = choice;
    legend.replaceChildren();
    message.textContent = choice?.path ? `Loading ${choice.name} …` : "";
    try {
      const file = choice?.path ? await bytes(choice.path) : null;
      for (const screen of screens) {
        const volume = file && await volumeOf(kit, choice, file, outlined.checked);
        if (number !== asked) return;
        screen.outline(outlined.checked ? 1 : 0);
        screen.overlay(volume);
      }
    } catch (error) {
      if (number === asked) message.textContent = error.message;
      return;
    }
    if (number !== asked) return;
    draw();
    message.textContent = choice?.note ?? "";
    if (choice?.scale) legend.replaceChildren(...scaleOf(choice.scale));
  }

  async function toRegion() {
    const choice = choices.find(({ tag }) => tag);
    if (!choice) return;
    message.textContent = `Loading ${choice.name} …`;
    try {
      const middle = middleOf(await volumeOf(kit, choice, await bytes(choice.path), false));
      message.textContent = middle ? "" : `${choice.name}: it is empty.`;
      if (middle) goTo(middle);
    } catch (error) {
      message.textContent = error.message;
    }
  }

  const radio = choice => h("label", {}, h("input", {
    type: "radio", name: "overlay", checked: !choice.path, onchange: () => choose(choice),
  }), choice.name);

  const contribution = () => {
    const show = () => { one.checked = true; choose(maps[select.selectedIndex]); };
    const select = h("select", { "aria-label": "Which contribution", onchange: show },
      maps.map(({ name }) => h("option", {}, name)));
    const one = h("input", { type: "radio", name: "overlay", onchange: show });
    return [h("label", {}, one, "Contribution of a modality"), select];
  };

  return h("div", { class: "overlays" },
    h("fieldset", {}, h("legend", {}, "Shown over the images"),
      choices.filter(({ map }) => !map).map(radio), maps.length > 0 && contribution()),
    h("div", {},
      h("label", {}, "Opacity", opacity),
      h("label", {}, outlined, "Labels as outlines")),
    h("div", {},
      about.differences.filter(({ most_mm: mm }) => mm).map(({ pair, most_mm: mm }) =>
        h("button", { type: "button", onclick: () => goTo(mm) }, `Go to where ${pair} differ most`)),
      choices.some(({ tag }) => tag) && h("button", { type: "button", onclick: toRegion }, "Go to the segmentation")),
    legend, message);
}

function found(about) {
  const folder = `cases/${encodeURIComponent(about.id)}`;
  const maps = about.model?.maps ?? [];
  return [
    { name: "Nothing" },
    about.model && {
      name: "Pre-segmentation by the model", tag: "model", path: `${folder}/segmentation.nii.gz`,
      note: about.model.version ? `By version ${about.model.version} of the model.` : "",
    },
    about.model && {
      name: "Where the model is unsure", path: `${folder}/uncertainty.nii.gz`,
      scale: { low: TENTH, high: Math.LN2, unit: "nats" },
      note: "Coloured where the model gives a voxel between 10 and 90 %; the brightest is a coin toss.",
    },
    ...about.labels.map(({ tag }) => ({
      name: `Label, ${tag}`, tag, path: `${folder}/labels/${encodeURIComponent(tag)}.nii.gz`,
    })),
    ...about.differences.map(({ pair, low, high }) => ({
      name: `Where ${pair} differ`,
      path: `${folder}/difference/${pair.split("/").map(encodeURIComponent).join("/")}.nii.gz`,
      scale: { low, high, unit: "deviations" },
      note: "How far each place departs from what is usual there, in standard deviations; what is below the pool’s median is not coloured.",
    })),
    ...maps.map(({ measure, unit, sender, subtask }) => ({
      map: true,
      name: `${sender} → ${subtask}, ${MEASURES[measure] ?? measure}`,
      path: `/mdal/explanation/${[about.id, sender, subtask, measure].map(encodeURIComponent).join("/")}.nii.gz`,
      scale: { low: null, high: null, unit },
      note: `Contribution of ${sender} to the subtask ${subtask}.`,
    })),
  ].filter(Boolean);
}

async function volumeOf({ NVImage }, choice, file, outlined) {
  const volume = await NVImage.loadFromUrl({ url: file.slice(0), name: "overlay.nii.gz", opacity: 0.6 });
  if (choice.tag) {
    const filled = outlined ? 0 : 255;
    volume.hdr.intent_code = 1002;  // a label volume, for which NiiVue draws outlines
    volume.setColormapLabel({ ...OUTLINED, A: [0, filled], I: [0, 1], labels: ["", "outlined"] });
  } else {
    const { scale } = choice;
    if (scale.high === null) [scale.low, scale.high] = strongest(volume);
    volume.colormap = "heat";
    [volume.cal_min, volume.cal_max] = [scale.low, scale.high];
  }
  return volume;
}

// Colour range from a twentieth of the maximum to the maximum; smaller values stay transparent.
function strongest(volume) {
  let most = 0;
  for (const value of volume.img) if (value > most) most = value;
  return [most / 20, most || 1];
}

// RAS mm of the labelled voxel nearest to the centre of all labelled voxels; null if there is none.
function middleOf(volume) {
  const [, width, height] = volume.hdr.dims;
  const at = place => [place % width, Math.floor(place / width) % height, Math.floor(place / (width * height))];
  const places = [];
  volume.img.forEach((value, place) => { if (value) places.push(place); });
  if (places.length === 0) return null;
  const mean = [0, 0, 0];
  for (const place of places) at(place).forEach((index, axis) => { mean[axis] += index / places.length; });
  const off = place => at(place).reduce((sum, index, axis) => sum + (index - mean[axis]) ** 2, 0);
  const best = at(places.reduce((nearest, place) => (off(place) < off(nearest) ? place : nearest)));
  return volume.hdr.affine.slice(0, 3).map(row => row[0] * best[0] + row[1] * best[1] + row[2] * best[2] + row[3]);
}

function scaleOf({ low, high, unit }) {
  const stops = [1, 2, 3].map(row =>
    s("stop", { offset: HEAT.I[row] / 255, "stop-color": `rgb(${HEAT.R[row]}, ${HEAT.G[row]}, ${HEAT.B[row]})` }));
  return [signed(low),
    s("svg", { viewBox: "0 0 120 10", role: "img", "aria-label": "from dark red over orange to yellow" },
      s("linearGradient", { id: "heat" }, stops),
      s("rect", { width: 120, height: 10, fill: "url(#heat)" })),
    `${signed(high)} ${unit}`];
}
