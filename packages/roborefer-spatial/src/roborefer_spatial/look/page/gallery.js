"use strict";
// Untrusted text (answers, ids, prompts) only ever enters the page through textContent.
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const data = read("data"), pictures = read("pictures"), PAGE = 24;
const $ = (id) => document.getElementById(id);
const FILTERS = ["run", "set", "outcome", "reason", "low", "high", "pair", "order", "search"];
let shown = [], page = 0, scale = 1;

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
  return ($("pair").value !== "" || is("run", item.run)) && is("set", item.set) && is("reason", item.reason) && is("outcome", item.outcome) &&
    ((low === -Infinity && high === Infinity) || (item.score !== null && item.score >= low && item.score <= high)) &&
    (wanted === "" || [item.id, item.scene, item.text || "", item.truthText].some((t) => t.toLowerCase().includes(wanted)));
}

// samples that two runs answered: id -> run -> item
const answered = new Map();
for (const item of data.items) {
  const key = `${item.set} ${item.id}`;
  if (!answered.has(key)) answered.set(key, new Map());
  answered.get(key).set(item.run, item);
}

// "side by side" offers, for two runs, the samples where one is right and the other is not, and all
function offerPairs() {
  const runs = [...new Set(data.items.map((item) => item.run))];
  const both = (a, b) => [...answered.values()].some((found) => found.has(a) && found.has(b));
  $("pair").append(new Option("off", ""));
  for (const a of runs) {
    for (const b of runs) {
      if (a === b || !both(a, b)) continue;
      $("pair").append(new Option(`${a} right, ${b} wrong`, JSON.stringify(["right", a, b])));
      if (runs.indexOf(a) > runs.indexOf(b)) continue;
      $("pair").append(new Option(`${a} or ${b} right, not both`, JSON.stringify(["one", a, b])));
      $("pair").append(new Option(`${a} and ${b}, all`, JSON.stringify(["all", a, b])));
    }
  }
  $("pairs").hidden = $("pair").options.length === 1;
}

function paired(items) {
  if ($("pair").value === "") return items.map((item) => [item]);
  const [kind, a, b] = JSON.parse($("pair").value), result = [];
  for (const item of items) {
    const found = answered.get(`${item.set} ${item.id}`), first = found.get(a), second = found.get(b);
    if (item !== first || !second) continue;
    const right = [first.score === 1, second.score === 1];
    if (kind === "all" || (right[0] !== right[1] && (kind === "one" || right[0]))) result.push([first, second]);
  }
  return result;
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
  box.addEventListener("click", () => enlarge(item));
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
  header.append(element("b", "run", item.run), name, element("span", `badge ${tone}`, item.outcome));
  const row = pictureRow(item);
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

function pictureRow(item) {
  const row = element("div", "pictures");
  item.images.forEach((_, index) => row.append(picture(item, index)));
  return row;
}

function enlarge(item) {
  scale = 1;
  $("zoom-name").textContent = `${item.id} (${item.run})`;
  $("zoomed").replaceChildren(pictureRow(item));
  if (!$("zoom").open) $("zoom").showModal();
}

function rescale(factor) {
  scale = Math.min(16, Math.max(1, scale * factor));
  $("zoomed").firstChild.style.width = `${100 * scale}%`;
}

function cards(items) {
  if (items.length === 1) return card(items[0]);
  const made = element("section", "pair");
  made.append(...items.map(card));
  return made;
}

function draw() {
  const pages = Math.max(1, Math.ceil(shown.length / PAGE));
  page = Math.min(Math.max(page, 0), pages - 1);
  $("cards").replaceChildren(...shown.slice(page * PAGE, (page + 1) * PAGE).map(cards));
  $("count").textContent = `${shown.length} of ${data.items.length} samples, page ${page + 1} of ${pages}`;
  $("previous").disabled = page === 0;
  $("next").disabled = page === pages - 1;
}

function update() {
  shown = paired(data.items.filter(keep).sort(ORDERS[$("order").value]));
  page = 0;
  draw();
}

// The filters that differ from the page's first view stand behind # in the address: a view can be linked to.
const base = {};

function remember() {
  const kept = FILTERS.filter((id) => $(id).value !== base[id]).map((id) => [id, $(id).value]);
  history.replaceState(null, "", `#${new URLSearchParams(kept)}`);
}

function recall() {
  const asked = new URLSearchParams(location.hash.slice(1));
  for (const id of FILTERS) {
    $(id).value = asked.has(id) ? asked.get(id) : base[id];
    if ($(id).selectedIndex === -1) $(id).value = base[id];
  }
}

function begin() {
  for (const id of FILTERS) {
    const first = $(id).value;
    if (id in data.start) $(id).value = data.start[id];
    if ($(id).selectedIndex === -1) $(id).value = first;
    base[id] = $(id).value;
  }
}

for (const key of ["run", "set", "reason", "outcome"]) fill($(key), data.items.map((item) => item[key]));
offerPairs();
begin();
recall();
for (const id of FILTERS) $(id).addEventListener("input", () => { update(); remember(); });
window.addEventListener("hashchange", () => { recall(); update(); });
$("larger").addEventListener("click", () => rescale(1.5));
$("smaller").addEventListener("click", () => rescale(1 / 1.5));
$("close").addEventListener("click", () => $("zoom").close());
$("masks").addEventListener("input", () => document.body.classList.toggle("no-masks", !$("masks").checked));
$("previous").addEventListener("click", () => { page -= 1; draw(); });
$("next").addEventListener("click", () => { page += 1; draw(); });
update();
