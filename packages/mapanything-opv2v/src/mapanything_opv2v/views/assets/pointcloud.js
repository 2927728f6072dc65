// One cloud: points, cameras, boxes, predicted against true poses.
const scene = new Scene($("stage"), data.start), state = { groups: {}, views: {}, layers: {} };
const groups = data.groups.map(group => addGroup(scene, group));
const grid = scene.addLines(gridSegments(data.ground), [128, 140, 155], 0.25);
const boxes = scene.addLines(boxSegments(data.boxes), [236, 168, 30]);
const boxLabels = data.boxes.filter(box => box.name).map(box => scene.addLabel(box.name, box.corners[0].map((c, k) => (c + box.corners[6][k]) / 2)));
scene.ends = { height: data.heightEnds, value: [0, data.valueLimit] };

function apply() {
  grid.visible = state.layers.grid;
  boxes.visible = state.layers.boxes;
  for (const label of boxLabels) label.visible = state.layers.boxes && state.layers.boxLabels;
  applyVisibility(scene, groups, state);
}

const layers = [["cameras", data.cameraText]];
if (data.hasTruth) layers.push(["truth", "true cameras (dashed), red line to them"]);
if (data.boxes.length) layers.push(["boxes", `vehicle boxes (${data.boxes.length})`], ["boxLabels", "their ids"]);
layers.push(["labels", "labels"], ["grid", "grid, 10 m"]);
buildLayerControls(layers, state, apply);
backgroundControl([scene]);
buildGroupControls(groups, state, apply, camera => scene.lookFrom(camera.centre, camera.forward));
buildCameraControls([scene]);
if (data.count) {
  const modes = [["image", data.imageText], ["plain", "vehicle"], ["height", "height"]];
  if (data.valueName) modes.push(["value", data.valueName]);
  buildPointControls([scene], modes, pointLegend);
}
for (const shown of data.tables) $("more").append(...table(shown));
apply();
window.viewer = { scenes: [scene], state };
