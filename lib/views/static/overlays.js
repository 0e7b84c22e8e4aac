// Overlays on the images: the outlines of a label, and one coloured map.

import { h, s } from "mdal/dom.js";
import { signed } from "mdal/format.js";
import { colours, middleOf, structuresOf, volumesOf } from "mdal/structures.js";

const HEAT = {  // transparent below the coloured range
  R: [0, 150, 255, 255], G: [0, 0, 110, 240], B: [0, 60, 0, 120], A: [0, 110, 190, 230], I: [0, 1, 128, 255],
};
const TENTH = -(0.1 * Math.log(0.1) + 0.9 * Math.log(0.9));  // entropy of a probability of 10 % in nats
const MEASURES = { attention: "attention to the sender", kl: "information in the message" };
const NONE = { name: "none" };

// Controls for the overlays of every screen, and what explains them.
export function overlays({ source, about, screens, goTo, kit }) {
  const files = new Map();  // path -> promise of its bytes
  const message = h("p", { role: "status", class: "quiet" });
  const legend = h("div", { class: "legend" });
  const opacity = h("input", { type: "range", min: 0, max: 1, step: 0.05, value: 0.6, oninput: () => fade() });
  const filled = h("input", { type: "checkbox", onchange: () => draw() });
  const outlines = [...outlinesOf(about), NONE];
  const maps = [NONE, ...mapsOf(about)];
  const outline = choice("Outline", outlines, () => { hidden.clear(); draw(); });
  const map = choice("Colour", maps, () => draw());
  const hidden = new Set();  // values of the structures that are switched off
  kit.cmapper.addColormap("heat", HEAT);
  let asked = 0;

  const fade = () => { for (const screen of screens) screen.fade(Number(opacity.value)); };

  const bytes = path => {
    if (!files.has(path)) {
      const loading = source.bytes(path);
      loading.catch(() => files.delete(path));
      files.set(path, loading);
    }
    return files.get(path);
  };

  const labelVolume = async file => {
    const volume = await kit.NVImage.loadFromUrl({ url: file.slice(0), name: "label.nii.gz", opacity: 0.6 });
    volume.hdr.intent_code = 1002;  // a label volume, for which NiiVue draws outlines
    volume.setColormapLabel(colours(about.structures, filled.checked));
    return volume;
  };

  async function draw() {
    const number = ++asked;
    const [drawn, coloured] = [outline.chosen(), map.chosen()];
    const wanted = [drawn, coloured].filter(({ path }) => path);
    message.textContent = wanted.length ? `Loading ${wanted.map(({ name }) => name).join(" and ")} …` : "";
    let volumes = null;
    try {
      const [labelFile, mapFile] = await Promise.all([drawn, coloured].map(({ path }) => path && bytes(path)));
      for (const screen of screens) {
        const heat = mapFile ? await mapVolume(kit, coloured, mapFile) : null;
        const label = labelFile ? await labelVolume(labelFile) : null;
        if (number !== asked) return;
        if (label) volumes ??= volumesOf(label);
        screen.overlay(heat, label && without(label, hidden), filled.checked);
      }
    } catch (error) {
      if (number === asked) message.textContent = error.message;
      return;
    }
    fade();
    message.textContent = [drawn.note, coloured.note].filter(Boolean).join(" ");
    legend.replaceChildren(
      ...structuresOf(about.structures, volumes ?? new Map(), hidden, draw),
      ...(coloured.scale ? [scaleOf(coloured.scale)] : []));
  }

  async function toLesion() {
    const { path, name } = outline.chosen();
    if (!path) return;
    try {
      const middle = middleOf(await labelVolume(await bytes(path)));
      if (middle) goTo(middle);
      else message.textContent = `${name}: it is empty.`;
    } catch (error) {
      message.textContent = error.message;
    }
  }

  const mostDifferent = () => {
    const pair = map.chosen().pair ?? about.most_different_pair;
    return about.differences.find(known => known.pair === pair)?.most_mm ?? null;
  };

  return {
    controls: [
      outline.node, h("label", {}, filled, "Filled"), map.node, h("label", {}, "Opacity", opacity),
      outlines.length > 1 && h("button", { type: "button", onclick: toLesion }, "To the lesion"),
      mostDifferent() && h("button", { type: "button", onclick: () => goTo(mostDifferent()) },
        "To the largest difference"),
    ].filter(Boolean),
    legend: h("div", { class: "legends" }, legend, message),
    mostDifferent,
    start: () => Promise.all([draw(), toLesion()]),
  };
}

// A select of named choices, in groups where they have one; the first is chosen.
function choice(label, all, onchange) {
  const option = ({ name }) => h("option", { value: all.findIndex(one => one.name === name) }, name);
  const groups = [...new Set(all.map(({ group }) => group))];
  const select = h("select", { onchange }, groups.map(group => {
    const options = all.filter(one => one.group === group).map(option);
    return group ? h("optgroup", { label: group }, options) : options;
  }));
  return { node: h("label", {}, label, select), chosen: () => all[Number(select.value)] };
}

function outlinesOf(about) {
  const folder = `cases/${encodeURIComponent(about.id)}`;
  const tags = about.labels.map(({ tag }) => tag).sort((a, b) => (b === "final") - (a === "final"));
  const labels = tags.map(tag => ({ name: `label, ${tag}`, path: `${folder}/labels/${encodeURIComponent(tag)}.nii.gz` }));
  const model = about.model && {
    name: "pre-segmentation", path: `${folder}/segmentation.nii.gz`,
    note: about.model.version ? `By version ${about.model.version} of the model.` : "",
  };
  const first = tags.includes("final") ? 1 : 0;  // a reader's label is shown before the model's, an original after
  return [...labels.slice(0, first), ...(model ? [model] : []), ...labels.slice(first)];
}

function mapsOf(about) {
  const folder = `cases/${encodeURIComponent(about.id)}`;
  return [
    ...about.differences.map(({ pair, low, high }) => ({
      group: "How much the modalities differ", name: pair, pair,
      path: `${folder}/difference/${pair.split("/").map(encodeURIComponent).join("/")}.nii.gz`,
      scale: { low, high, unit: "deviations" },
      note: "How far each place departs from what is usual there, in standard deviations; what is below the pool’s median is not coloured.",
    })),
    about.model && {
      group: "The model", name: "where it is unsure", path: `${folder}/uncertainty.nii.gz`,
      scale: { low: TENTH, high: Math.LN2, unit: "nats" },
      note: "Coloured where the model gives a voxel between 10 and 90 %; the brightest is a coin toss.",
    },
    ...(about.model?.maps ?? []).map(({ measure, unit, sender, subtask }) => ({
      group: "What a modality added", name: `${sender} → ${subtask}, ${MEASURES[measure] ?? measure}`,
      path: `/mdal/explanation/${[about.id, sender, subtask, measure].map(encodeURIComponent).join("/")}.nii.gz`,
      scale: { low: null, high: null, unit },
      note: `Contribution of ${sender} to the subtask ${subtask}.`,
    })),
  ].filter(Boolean);
}

async function mapVolume({ NVImage }, { scale }, file) {
  const volume = await NVImage.loadFromUrl({ url: file.slice(0), name: "map.nii.gz", opacity: 0.6 });
  if (scale.high === null) [scale.low, scale.high] = strongest(volume);
  volume.colormap = "heat";
  [volume.cal_min, volume.cal_max] = [scale.low, scale.high];
  return volume;
}

// Colour range from a twentieth of the maximum to the maximum; smaller values stay transparent.
function strongest(volume) {
  let most = 0;
  for (const value of volume.img) if (value > most) most = value;
  return [most / 20, most || 1];
}

function without(label, hidden) {
  if (hidden.size) label.img.forEach((value, place) => { if (hidden.has(value)) label.img[place] = 0; });
  return label;
}

function scaleOf({ low, high, unit }) {
  const stops = [1, 2, 3].map(row =>
    s("stop", { offset: HEAT.I[row] / 255, "stop-color": `rgb(${HEAT.R[row]}, ${HEAT.G[row]}, ${HEAT.B[row]})` }));
  return h("div", { class: "scale" }, signed(low),
    s("svg", { viewBox: "0 0 120 10", role: "img", "aria-label": "from dark red over orange to yellow" },
      s("linearGradient", { id: "heat" }, stops),
      s("rect", { width: 120, height: 10, fill: "url(#heat)" })),
    `${signed(high)} ${unit}`);
}
