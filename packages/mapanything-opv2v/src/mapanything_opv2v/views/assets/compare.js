// Two clouds: side by side with one camera, or both in the left view.
const scenes = [new Scene($("stageA"), data.start), new Scene($("stageB"), data.start)];
scenes[0].followers = [scenes[1]];
scenes[1].followers = [scenes[0]];
const state = { groups: {}, views: {}, layers: {} };
const captions = ["stageA", "stageB"].map(id => $(id).appendChild(make("div", { className: "caption" })));
const filled = data.sides.map((side, k) => side.groups.map(group => addGroup(scenes[k], group)));
const over = data.sides[1].groups.map(group => addGroup(scenes[0], group));   // B once more, in the left view
const grids = scenes.map(scene => scene.addLines(gridSegments(data.ground), [128, 140, 155], 0.25));
const boxes = scenes.map(scene => scene.addLines(boxSegments(data.boxes), [236, 168, 30]));
for (const scene of scenes) scene.ends = { height: data.heightEnds, value: [0, data.valueLimit] };

function apply() {
  const beside = $("layout").value === "beside";
  $("stageB").hidden = !beside;
  captions[0].textContent = beside ? `A: ${data.sides[0].title}` : `A: ${data.sides[0].title} and B: ${data.sides[1].title}`;
  captions[1].textContent = `B: ${data.sides[1].title}`;
  for (const grid of grids) grid.visible = state.layers.grid;
  for (const box of boxes) box.visible = state.layers.boxes ?? false;
  applyVisibility(scenes[0], filled[0], state);
  applyVisibility(scenes[1], filled[1], state);
  applyVisibility(scenes[0], over, beside ? { ...state, groups: {} } : state);
}

const layers = data.boxes.length ? [["boxes", `vehicle boxes (${data.boxes.length})`]] : [];
buildLayerControls([...layers, ["grid", "grid, 10 m"]], state, apply);
backgroundControl(scenes);
buildGroupControls(filled.flat(), state, apply, () => {});
buildCameraControls(scenes);
buildPointControls(scenes, [["value", "difference"], ["image", "image"], ["plain", "side"], ["height", "height"]], pointLegend);
$("layout").addEventListener("change", () => {
  if ($("layout").value === "over" && $("mode").value === "image") { $("mode").value = "plain"; $("mode").dispatchEvent(new Event("change")); }
  apply();
});
$("more").append(...table(data.table));
apply();
window.viewer = { scenes, state };
