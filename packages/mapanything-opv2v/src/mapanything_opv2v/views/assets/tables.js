"use strict";
// A page of verdicts, charts and tables; everything is text, never markup.
const SVG = "http://www.w3.org/2000/svg";

function shape(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Return round values from low to high, some five of them. */
function ticks(low, high) {
  const span = high - low || 1, raw = span / 4, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map(k => k * power).find(s => s >= raw);
  const found = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-9; v += step) found.push(+v.toPrecision(12));
  return found;
}

/** Draw curves: {title, x, y, series: [{name, points: [[x, y], ...]}]}. */
function chart({ title, x, y, series }) {
  const W = 420, H = 250, left = 56, right = 14, top = 12, bottom = 42;
  const xs = series.flatMap(s => s.points.map(p => p[0])), ys = series.flatMap(s => s.points.map(p => p[1]));
  const x0 = Math.min(...xs), x1 = Math.max(...xs), y1 = Math.max(...ys, 0) * 1.05 || 1;
  const px = v => left + (x1 > x0 ? (v - x0) / (x1 - x0) : 0.5) * (W - left - right);
  const py = v => H - bottom - v / y1 * (H - top - bottom);
  const svg = shape("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": title });
  for (const v of ticks(0, y1)) {
    svg.append(shape("line", { x1: left, x2: W - right, y1: py(v), y2: py(v), class: "grid" }));
    svg.append(shape("text", { x: left - 6, y: py(v) + 4, class: "end" }, String(v)));
  }
  for (const v of [...new Set(xs)].sort((a, b) => a - b))
    svg.append(shape("text", { x: px(v), y: H - bottom + 16, class: "middle" }, String(v)));
  svg.append(shape("text", { x: (left + W - right) / 2, y: H - 6, class: "middle" }, x));
  series.forEach((s, k) => {
    const colour = css(data.palette[k % data.palette.length]), dash = s.flat ? "5 4" : "none";
    const path = s.points.map((p, i) => `${i ? "L" : "M"}${px(p[0]).toFixed(1)} ${py(p[1]).toFixed(1)}`).join("");
    svg.append(shape("path", { d: path, stroke: colour, "stroke-dasharray": dash, class: "curve" }));
    if (!s.flat) for (const p of s.points) {
      const dot = shape("circle", { cx: px(p[0]), cy: py(p[1]), r: 3.5, fill: colour });
      dot.append(shape("title", {}, `${s.name}: ${p[1]}`));
      svg.append(dot);
    }
  });
  const legend = make("div", { className: "legend soft" },
    ...series.map((s, k) => make("span", {}, swatch(data.palette[k % data.palette.length]), s.name)));
  return make("figure", {}, make("figcaption", {}, make("b", {}, title), make("span", { className: "soft" }, y)), svg, legend);
}

const main = $("tables");
for (const { text, bad } of data.verdicts || []) {
  const [, head, rest] = text.match(/^([^:]*:[^:]*):?(.*)$/s) || ["", text, ""];
  main.append(make("p", { className: bad ? "verdict bad" : "verdict" }, make("b", {}, head), rest && ":" + rest));
}
for (const { title, charts } of data.charts || [])
  main.append(make("h2", {}, title), make("div", { className: "charts" }, ...charts.map(chart)));
for (const item of data.tables) {
  const [heading, grid] = table(item);
  for (const [row, column] of item.bad || []) grid.tBodies[0].rows[row].cells[column].className = "bad";
  for (const [row, column] of item.good || []) grid.tBodies[0].rows[row].cells[column].className = "good";
  main.append(heading, make("div", { className: "wide" }, grid));
  if (item.note) main.append(make("p", { className: "soft" }, item.note));
}
