"use strict";
// Untrusted text (answers, ids, prompts) only ever enters the page through textContent.
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const data = read("data"), pictures = read("pictures"), PAGE = 24;
const $ = (id) => document.getElementById(id);
let shown = [], page = 0;

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function fill(select, values) {
  const counts = new Map();
  for (const value of values) counts.set(value, (counts.get(value) || 0) + 1);
  select.append(new Option("all", ""));
  for (const [value, count] of [...counts].sort()) select.append(new Option(`${value} (${count})`, value));
}

function keep(item) {
  const is = (id, value) => $(id).value === "" || $(id).value === value;
  const low = $("low").value === "" ? -Infinity : +$("low").value, high = $("high").value === "" ? Infinity : +$("high").value;
  const wanted = $("search").value.toLowerCase();
  return is("run", item.run) && is("set", item.set) && is("reason", item.reason) && is("outcome", item.outcome) &&
    ((low === -Infinity && high === Infinity) || (item.score !== null && item.score >= low && item.score <= high)) &&
    (wanted === "" || [item.id, item.scene, item.text || "", item.truthText].some((t) => t.toLowerCase().includes(wanted)));
}

// no distance (no point, or nothing to point at) counts as the largest error when sorting
const error = (item) => (item.l2 === null ? (item.score === 1 ? -1 : 9) : item.l2);
const ORDERS = {
  file: () => 0,
  worst: (a, b) => error(b) - error(a),
  best: (a, b) => error(a) - error(b),
  score: (a, b) => a.score - b.score,
  id: (a, b) => (a.id < b.id ? -1 : 1),
};

function picture(item, index) {
  const last = index === item.images.length - 1;
  const box = element("figure", "picture");
  box.style.margin = 0;
  const image = element("img");
  image.src = pictures[item.images[index]];
  image.alt = item.captions[index];
  box.append(image, element("figcaption", "", item.captions[index]));
  if (!last) return box;
  if (item.mask !== null) {
    const mask = element("img", "mask");
    mask.src = pictures[item.mask];
    mask.alt = "mask";
    box.append(mask);
  }
  const dot = (kind, [x, y]) => {
    if (!(x >= 0 && x < 1 && y >= 0 && y < 1)) return;
    const made = element("div", `point ${kind}`);
    made.style.left = `${100 * x}%`;
    made.style.top = `${100 * y}%`;
    made.title = `${kind} (${x}, ${y})`;
    box.append(made);
  };
  if (item.truth) dot("truth", item.truth);
  for (const point of item.points) dot("answer", point);
  return box;
}

function card(item) {
  const made = element("article", "card"), header = element("header"), list = element("dl");
  made.dataset.id = item.id;
  const name = element("code", "", item.id);
  name.title = item.id;
  const tone = item.score === 1 ? "good" : item.score > 0 ? "part" : "bad";
  header.append(name, element("span", `badge ${tone}`, item.outcome));
  const row = element("div", "pictures");
  item.images.forEach((_, index) => row.append(picture(item, index)));
  const rows = [
    ["answer", item.text === null ? "(none)" : item.text], ["truth", item.truthText],
    ["reason", `${item.reason}: ${data.reasons[item.reason]}`], ["distance", item.l2 === null ? "-" : item.l2.toFixed(4)],
    ["set", `${item.run} · ${item.set} · ${item.scene}`],
  ];
  for (const [term, text] of rows) list.append(element("dt", "", term), element("dd", "", text));
  const prompt = element("details");
  prompt.append(element("summary", "", "question"), document.createTextNode(item.prompt));
  made.append(header, row, list, prompt);
  return made;
}

function draw() {
  const pages = Math.max(1, Math.ceil(shown.length / PAGE));
  page = Math.min(Math.max(page, 0), pages - 1);
  $("cards").replaceChildren(...shown.slice(page * PAGE, (page + 1) * PAGE).map(card));
  $("count").textContent = `${shown.length} of ${data.items.length} samples, page ${page + 1} of ${pages}`;
  $("previous").disabled = page === 0;
  $("next").disabled = page === pages - 1;
}

function update() {
  shown = data.items.filter(keep).sort(ORDERS[$("order").value]);
  page = 0;
  draw();
}

for (const key of ["run", "set", "reason", "outcome"]) fill($(key), data.items.map((item) => item[key]));
for (const id of ["run", "set", "reason", "outcome", "order", "low", "high", "search"]) $(id).addEventListener("input", update);
$("masks").addEventListener("input", () => document.body.classList.toggle("no-masks", !$("masks").checked));
$("previous").addEventListener("click", () => { page -= 1; draw(); });
$("next").addEventListener("click", () => { page += 1; draw(); });
update();
