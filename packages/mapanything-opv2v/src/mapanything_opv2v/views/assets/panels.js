// Pictures of one grid side by side: zoom, place and pointer are shared; values are read from the arrays.
let current = null;              // {view, panels, layers, flags}
let window2d = { zoom: 1, u: 0, v: 0 };   // middle of the panels, in picture pixels
let pointer = null;              // [column, row] under the pointer

function open(index) {
  const view = data.views[index];
  const panels = view.panels.map(panel => buildPanel(panel, view));
  $("panels").replaceChildren(...panels.map(panel => panel.figure));
  current = {
    view, panels,
    layers: view.layers.map(layer => ({ ...layer, values: decode(layer.values, Float32Array) })),
    flags: view.flags.map(flag => ({ ...flag, bits: decode(flag.bits, Uint8Array) })),
    rgb: null,
  };
  $("columns").value = view.columns;
  setColumns();
  reset();
}

function buildPanel({ title, picture, legend, ends, lines }, view) {
  const canvas = make("canvas"), caption = make("figcaption", {}, make("b", {}, title));
  if (legend) {
    const parts = legend.map(([name, rgb]) => make("span", {}, swatch(rgb), name));
    caption.append(make("span", { className: "legend" }, ...parts));
  }
  if (ends) caption.append(ramp(...ends));
  canvas.style.aspectRatio = `${view.width} / ${view.height}`;
  const panel = { canvas, figure: make("figure", {}, caption, canvas), image: new Image(), lines };
  panel.image.onload = draw;
  panel.image.src = picture;
  listen(panel);
  return panel;
}

function reset() {
  window2d = { zoom: 1, u: current.view.width / 2, v: current.view.height / 2 };
  draw();
}

/** Keep the picture in sight; panoramas go round, so they may be moved sideways without end. */
function clampWindow() {
  const { width, height, wrap } = current.view, w = window2d;
  w.zoom = Math.max(1, Math.min(40, w.zoom));
  const halfU = width / 2 / w.zoom, halfV = height / 2 / w.zoom;
  w.u = wrap ? (w.u % width + width) % width : Math.max(halfU, Math.min(width - halfU, w.u));
  w.v = Math.max(halfV, Math.min(height - halfV, w.v));
}

let waiting = null;
function draw() { waiting ??= requestAnimationFrame(() => { waiting = null; drawNow(); }); }

function drawNow() {
  clampWindow();
  $("zoom").value = Math.log2(window2d.zoom);
  for (const panel of current.panels) drawPanel(panel);
  readout();
}

function drawPanel({ canvas, image, lines }) {
  const { view } = current, ratio = Math.min(2, window.devicePixelRatio || 1);
  const width = Math.max(2, Math.round(canvas.clientWidth * ratio)), height = Math.max(2, Math.round(width * view.height / view.width));
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  const context = canvas.getContext("2d"), scale = width / view.width * window2d.zoom;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.fillStyle = "#18181c";
  context.fillRect(0, 0, width, height);
  context.setTransform(scale, 0, 0, scale, width / 2 - scale * window2d.u, height / 2 - scale * window2d.v);
  context.imageSmoothingEnabled = scale < 1;
  for (const turn of view.wrap ? [-1, 0, 1] : [0]) if (image.complete && image.naturalWidth) context.drawImage(image, turn * view.width, 0);
  if (lines) drawLines(context, lines, scale / ratio);
  if (!pointer) return;
  for (const turn of view.wrap ? [-1, 0, 1] : [0]) {
    const [u, v] = [pointer[0] + 0.5 + turn * view.width, pointer[1] + 0.5];
    context.beginPath();
    context.moveTo(u, v - 1e4); context.lineTo(u, v + 1e4); context.moveTo(u - 1e4, v); context.lineTo(u + 1e4, v);
    for (const [colour, thickness] of [["#0009", 3], ["#fff", 1]]) {
      context.strokeStyle = colour;
      context.lineWidth = thickness / scale * ratio;
      context.stroke();
    }
  }
}

/** Draw outlines ({name, colour, places: [[u, v], ...], kind}) over a panel. */
function drawLines(context, lines, scale) {
  context.font = `${12 / scale}px system-ui, sans-serif`;
  context.textAlign = "center";
  for (const { name, colour, places, kind } of lines) {
    if (hidden.has(kind)) continue;
    context.strokeStyle = context.fillStyle = css(colour);
    context.lineWidth = 1.6 / scale;
    context.beginPath();
    places.forEach(([u, v], k) => k ? context.lineTo(u, v) : context.moveTo(u, v));
    context.closePath();
    context.stroke();
    if (hidden.has("ids")) continue;
    context.strokeStyle = "#000c";
    context.lineWidth = 3 / scale;
    const u = places.reduce((sum, place) => sum + place[0], 0) / places.length, v = Math.min(...places.map(place => place[1])) - 4 / scale;
    context.strokeText(name, u, v);
    context.fillText(name, u, v);
  }
}

function listen({ canvas }) {
  let last = null;
  const place = event => {
    const box = canvas.getBoundingClientRect(), { view } = current, step = view.width / box.width / window2d.zoom;
    const u = Math.floor(window2d.u + (event.clientX - box.left - box.width / 2) * step);
    const v = Math.floor(window2d.v + (event.clientY - box.top - box.height / 2) * step);
    const around = view.wrap ? (u % view.width + view.width) % view.width : u;
    return around >= 0 && around < view.width && v >= 0 && v < view.height ? [around, v] : null;
  };
  canvas.addEventListener("pointerdown", event => { canvas.setPointerCapture(event.pointerId); last = [event.clientX, event.clientY]; });
  canvas.addEventListener("pointerup", () => { last = null; });
  canvas.addEventListener("pointercancel", () => { last = null; });
  canvas.addEventListener("pointermove", event => {
    if (last) {
      const step = current.view.width / canvas.getBoundingClientRect().width / window2d.zoom;
      window2d.u -= (event.clientX - last[0]) * step;
      window2d.v -= (event.clientY - last[1]) * step;
      last = [event.clientX, event.clientY];
    }
    pointer = place(event);
    draw();
  });
  canvas.addEventListener("pointerleave", () => { pointer = null; draw(); });
  canvas.addEventListener("wheel", event => {
    event.preventDefault();
    const box = canvas.getBoundingClientRect(), before = window2d.zoom;
    const du = event.clientX - box.left - box.width / 2, dv = event.clientY - box.top - box.height / 2;
    window2d.zoom = Math.max(1, Math.min(40, before * Math.exp(-event.deltaY * 0.0015)));
    const step = current.view.width / box.width * (1 / before - 1 / window2d.zoom);
    window2d.u += du * step;
    window2d.v += dv * step;
    draw();
  }, { passive: false });
}

/** Return what stands at a pixel, as [name, text] pairs. */
function valuesAt(u, v) {
  const { view, layers, flags } = current, at = v * view.width + u, found = [["pixel", `${u}, ${v}`]];
  if (view.axes) found.push(...AXES[view.axes.kind](view.axes, u, v, view));
  for (const { name, unit, values, zero, negative, digits } of layers) {
    const value = values[at];
    const text = Number.isNaN(value) ? "unknown" : value === 0 && zero ? zero : value < 0 && negative ? negative
      : `${value.toFixed(digits)}${unit && " " + unit}`;
    found.push([name, text]);
  }
  for (const { name, names, bits } of flags) {
    const on = names.filter((_, k) => bits[at] >> k & 1);
    found.push([name, on.join(", ") || "none"]);
  }
  return found;
}

const degrees = radians => `${(radians * 180 / Math.PI).toFixed(2)}°`;

/** What a pixel's column and row mean: azimuth grows to the right, elevation upwards. */
const AXES = {
  cylinder({ verticalFovDeg, elevationCenterDeg }, u, v, { width, height }) {
    const azimuth = (u + 0.5 - width / 2) * 360 / width;
    const elevation = elevationCenterDeg - (v + 0.5 - height / 2) * verticalFovDeg / height;
    return [["azimuth", `${azimuth.toFixed(2)}°`], ["elevation", `${elevation.toFixed(2)}°`]];
  },
  pinhole({ intrinsic }, u, v) {
    const y = (v - intrinsic[1][2]) / intrinsic[1][1];
    const x = (u - intrinsic[0][2] - intrinsic[0][1] * y) / intrinsic[0][0];
    return [["azimuth", degrees(Math.atan2(x, 1))], ["elevation", degrees(Math.atan2(-y, Math.hypot(x, 1)))]];
  },
  ground({ cell, ahead, left }, u, v) {
    return [["ahead", `${(ahead - (v + 0.5) * cell).toFixed(2)} m`], ["left", `${(left - (u + 0.5) * cell).toFixed(2)} m`]];
  },
};

function readout() {
  const pairs = pointer ? valuesAt(...pointer) : [["", "no pixel under the pointer"]];
  $("readout").replaceChildren(...pairs.map(([name, text]) => make("span", {}, name && `${name} `, make("b", {}, text))));
}

function setColumns() {
  const columns = Number($("columns").value), { view, panels } = current, box = $("panels");
  box.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
  box.classList.toggle("aligned", columns > 1);
  // one above the other, all of them fit the window where that leaves them large enough
  const fits = (innerHeight - box.offsetTop - 20) / panels.length - 50;
  box.style.maxWidth = columns > 1 ? "" : `${Math.max(900, Math.round(fits * view.width / view.height)) + 32}px`;
  draw();
}

const hidden = new Set();
const kinds = [...new Set(data.views.flatMap(view => view.panels.flatMap(panel => (panel.lines ?? []).map(line => line.kind))))];
for (const kind of kinds.length ? [...kinds, "ids"] : []) {
  $("overlays").append(checkbox(kind, true, on => { on ? hidden.delete(kind) : hidden.add(kind); draw(); }), " ");
}
data.views.forEach((view, k) => $("view").append(new Option(view.name, k)));
$("viewLabel").hidden = data.views.length < 2;
$("view").addEventListener("change", () => { pointer = null; open(Number($("view").value)); });
$("columns").addEventListener("change", setColumns);
$("zoom").addEventListener("input", () => { window2d.zoom = 2 ** Number($("zoom").value); draw(); });
$("reset").addEventListener("click", reset);
document.addEventListener("keydown", event => { if (event.key.toLowerCase() === "r" && !event.ctrlKey && !event.metaKey) reset(); });
window.addEventListener("resize", setColumns);
open(0);
