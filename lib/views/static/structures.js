// The structures of a label: their colours, names, volumes, and a switch for each.

import { h } from "mdal/dom.js";

// NiiVue's colours of a label, by value.
export function colours(structures, filled) {
  const part = place => [0, ...structures.map(({ colour }) => parseInt(colour.slice(place, place + 2), 16))];
  const alpha = filled ? 255 : 0;
  return {
    R: part(1), G: part(3), B: part(5), A: [0, ...structures.map(() => alpha)],
    I: [0, ...structures.map(({ value }) => value)], labels: ["", ...structures.map(({ name }) => name)],
  };
}

// Volume of each value in ml.
export function volumesOf(volume) {
  const [, x, y, z] = volume.hdr.pixDims;
  const found = new Map();
  for (const value of volume.img) if (value) found.set(value, (found.get(value) ?? 0) + 1);
  for (const [value, voxels] of found) found.set(value, voxels * x * y * z / 1000);
  return found;
}

// A switch with colour, name and volume for each structure that the label has.
export function structuresOf(structures, volumes, hidden, changed) {
  return structures.filter(({ value }) => volumes.has(value)).map(({ name, value, colour }) => {
    const shown = h("input", { type: "checkbox", checked: !hidden.has(value), onchange: () => {
      if (shown.checked) hidden.delete(value);
      else hidden.add(value);
      changed();
    } });
    const swatch = h("span", { class: "swatch" });
    swatch.style.setProperty("--colour", colour);  // the page's policy forbids styles in attributes
    return h("label", {}, shown, swatch, `${name}, ${volumes.get(value).toFixed(1)} ml`);
  });
}

// RAS mm of the labelled voxel nearest to the centre of all labelled voxels; null if there is none.
export function middleOf(volume) {
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
