// One modality on a canvas of its own: axial slices or three planes, a window, overlays.

import { h } from "mdal/dom.js";

const BY_HAND = "by hand";

export class Screen {
  #NVImage;
  #nv;
  #windows = [];  // low and high of each preset, in the image's numbers
  #move;
  #settled = false;
  #sliceTypes;

  // `moved(mm)` is called when a person moves the cross on this screen.
  constructor({ Niivue, NVImage, SLICE_TYPE, DRAG_MODE, MULTIPLANAR_TYPE }, modality, moved) {
    this.modality = modality;
    this.#NVImage = NVImage;
    this.#sliceTypes = SLICE_TYPE;
    this.#move = moved;
    const look = () => this.#look();  // NiiVue has no event for dragging
    this.canvas = h("canvas", {
      onmousemove: look,
      onmouseup: look,
      "aria-label": `${modality.name}; arrow keys and Page Up, Page Down move the cross`,
    });
    const choose = () => this.window(this.select.selectedIndex);
    this.select = h("select", { "aria-label": `Window of ${modality.name}`, onchange: choose },
      modality.presets.map(preset => h("option", {}, preset.name)), h("option", { hidden: true }, BY_HAND));
    this.range = h("span", { class: "quiet" });
    this.read = h("output", { "aria-label": `${modality.name} at the cross` });
    this.node = h("figure", { class: "screen" },
      h("figcaption", {}, h("strong", {}, modality.name), this.select, this.range, this.read),
      h("div", { class: "canvas" }, this.canvas));
    this.#nv = new Niivue({
      isRadiologicalConvention: true,
      sagittalNoseLeft: true,
      isSliceMM: true,  // planes along the patient's axes, however the voxels lie
      sliceType: SLICE_TYPE.AXIAL,
      multiplanarLayout: MULTIPLANAR_TYPE.AUTO,
      multiplanarShowRender: 0,
      dragMode: DRAG_MODE.windowing,
      dragAndDropEnabled: false,
      isResizeCanvas: true,
      loadingText: "",
      logLevel: "error",
      crosshairColor: [1, 0.76, 0.29, 0.8],
      crosshairWidthUnit: "percent",
      crosshairWidth: 0.5,
      crosshairGap: 8,  // mm: the cross does not cover what it points at
      fontColor: modality.inverted ? [0.1, 0.2, 0.5, 1] : [0.91, 0.93, 0.96, 1],
      fontMinPx: 18,
    });
  }

  async show(file) {
    const nv = this.#nv;
    await nv.attachToCanvas(this.canvas, false);
    nv.addVolume(await this.#NVImage.loadFromUrl({ url: file, name: "image.nii.gz", colormap: "gray" }));
    this.#windows = this.#known();
    this.window(0);
    nv.onIntensityChange = () => this.#look();
    nv.onLocationChange = ({ mm }) => { if (this.#settled) this.#moved([mm[0], mm[1], mm[2]]); };
    this.#settled = true;
  }

  // Voxel size in mm along left-right, anterior-posterior, superior-inferior.
  get stepMm() {
    return [1, 2, 3].map(axis => this.#nv.volumes[0].pixDimsRAS[axis]);
  }

  get middle() {
    return [...this.#nv.frac2mm([0.5, 0.5, 0.5])].slice(0, 3);
  }

  // Position of the cross in RAS mm.
  get place() {
    return [...this.#nv.frac2mm(this.#nv.scene.crosshairPos)].slice(0, 3);
  }

  // Value of the image at the cross, in its unit; null outside the image.
  get value() {
    if (this.#nv.scene.crosshairPos.some(share => share < 0 || share > 1)) return null;
    const image = this.#nv.volumes[0];
    return image.getValue(...image.mm2vox(this.place));
  }

  goTo(mm) {
    this.#nv.scene.crosshairPos = this.#nv.mm2frac(mm);
    this.#nv.drawScene();
    this.readOut();
  }

  readOut() {
    const value = this.value;
    const number = Number.isFinite(value) ? minus(value.toFixed(Math.abs(value) < 20 ? 1 : 0)) : "no value";
    this.read.textContent = `cross: ${number} ${this.modality.unit}`;
  }

  #moved(mm) {
    this.readOut();
    this.#move(mm);
  }

  window(place) {
    const image = this.#nv.volumes[0];
    [image.cal_min, image.cal_max] = this.#windows[place];
    image.colormapInvert = this.modality.inverted;
    this.#nv.updateGLVolume();
    this.#say(image.cal_min, image.cal_max, this.modality.presets[place].name);
  }

  // Show these overlays alone, the label above the map; null for none.
  overlay(map, label, filled) {
    const nv = this.#nv;
    for (const old of nv.volumes.slice(1)) nv.removeVolume(old);
    nv.opts.atlasOutline = filled ? 0 : 1;
    for (const volume of [map, label]) if (volume) nv.addVolume(volume);
    nv.updateGLVolume();
  }

  // Opacity of the overlays; an outline is always opaque.
  fade(value) {
    this.#nv.volumes.slice(1).forEach((_, place) => this.#nv.setOpacity(place + 1, value));
  }

  // Show axial slices, or all three planes.
  planes(three) {
    this.#nv.setSliceType(three ? this.#sliceTypes.MULTIPLANAR : this.#sliceTypes.AXIAL);
  }

  say(sentence) {
    this.canvas.replaceWith(h("p", { class: "problem" }, sentence));
  }

  // Remove the picture and release the WebGL context: browsers allow only a few.
  close() {
    const { gl } = this.#nv;
    this.#settled = false;
    this.#nv.cleanup();
    gl?.getExtension("WEBGL_lose_context")?.loseContext();
  }

  // Show whether the window was changed by hand.
  #look() {
    if (!this.#settled) return;
    const { cal_min: low, cal_max: high } = this.#nv.volumes[0];
    const [presetLow, presetHigh] = this.#windows[this.select.selectedIndex] ?? [];
    if (low !== presetLow || high !== presetHigh) this.#say(low, high, BY_HAND);
  }

  #known() {
    const { presets, percentiles } = this.modality;
    if (!percentiles) return presets.map(({ low, high }) => [low, high]);
    const image = this.#nv.volumes[0];
    const stride = Math.ceil(image.img.length / 2e6);
    const values = image.img.filter((value, place) => value !== 0 && place % stride === 0).sort();
    const { scl_slope: slope, scl_inter: intercept } = image.hdr;
    const at = share => (values[Math.round((values.length - 1) * share / 100)] ?? 0) * slope + intercept;
    return presets.map(({ low, high }) => [at(low), at(high) > at(low) ? at(high) : at(low) + 1]);
  }

  #say(low, high, name) {
    this.select.value = name;
    const digits = high - low < 20 ? 1 : 0;
    this.range.textContent = `${minus(low.toFixed(digits))} to ${minus(high.toFixed(digits))} ${this.modality.unit}`;
  }
}

function minus(number) {
  return number.replace("-", "\u2212");
}
