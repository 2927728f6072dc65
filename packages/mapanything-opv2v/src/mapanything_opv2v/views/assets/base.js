"use strict";
// What every page needs: its data, elements, typed arrays, colour ramps.
const $ = id => document.getElementById(id);
const data = JSON.parse($("data").textContent);

/** Return the typed array that Python wrote as base64 (little endian). */
function decode(text, Type) {
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return new Type(bytes.buffer);
}

/** Make an element; children are nodes or text, never markup. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const css = rgb => `rgb(${rgb.join(",")})`;

function swatch(rgb) {
  const element = make("i", { className: "swatch" });
  element.style.background = css(rgb);
  return element;
}

/** Draw the colour ramp, or its part from `start` on, with what its ends mean. */
function ramp(low, high, reverse = false, start = 0) {
  const turbo = decode(data.turbo, Uint8Array), canvas = make("canvas", { className: "ramp", width: 256, height: 1 });
  const context = canvas.getContext("2d"), image = context.createImageData(256, 1);
  for (let i = 0; i < 256; i++) {
    const from = 3 * (reverse ? 255 - i : Math.round(255 * start + i * (1 - start)));
    image.data.set([turbo[from], turbo[from + 1], turbo[from + 2], 255], 4 * i);
  }
  context.putImageData(image, 0, 0);
  return make("div", {}, canvas, make("div", { className: "ends" }, make("span", {}, low), make("span", {}, high)));
}

function checkbox(text, checked, change, ...before) {
  const input = make("input", { type: "checkbox", checked });
  input.addEventListener("change", () => change(input.checked));
  return make("label", {}, input, ...before, text);
}

/** Return heading and table of {title, head, rows}. */
function table({ title, head, rows }) {
  const line = (row, tag) => make("tr", {}, ...row.map(cell => make(tag, {}, cell)));
  return [make("h2", {}, title), make("table", {}, make("thead", {}, line(head, "th")),
    make("tbody", {}, ...rows.map(row => line(row, "td"))))];
}
