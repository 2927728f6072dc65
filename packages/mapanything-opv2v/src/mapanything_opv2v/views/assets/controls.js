// What the pages with a scene share: filling it, and the controls beside it.

/** Put a group (one vehicle) into a scene; returns what can be switched. */
function addGroup(scene, group) {
  const views = group.views.map(view => {
    const shown = { view, points: null, cameras: [], truth: [] };
    if (view.xyz) {
      shown.points = scene.addPoints({
        name: `${group.name} ${view.name}`, xyz: decode(view.xyz, Float32Array), rgb: decode(view.rgb, Uint8Array),
        value: view.value && decode(view.value, Float32Array), colour: group.colour,
      });
      shown.points.from = view.camera?.centre;
    }
    if (view.camera) shown.cameras.push(scene.addLines(frustumSegments(view.camera), group.colour));
    if (view.trueCamera) {
      shown.truth.push(scene.addLines(frustumSegments(view.trueCamera, true)));
      shown.truth.push(scene.addLines([...view.camera.centre, ...view.trueCamera.centre], [255, 70, 70]));
    }
    return shown;
  });
  const first = group.views.find(view => view.camera);
  const label = first && scene.addLabel(group.name, first.camera.centre, group.colour);
  return { group, views, label };
}

/** Switch everything by the state of the page: which views, which layers. */
function applyVisibility(scene, groups, state) {
  for (const { group, views, label } of groups) {
    for (const { view, points, cameras, truth } of views) {
      const on = state.groups[group.name] && state.views[`${group.name} ${view.name}`];
      if (points) points.visible = on;
      for (const part of cameras) part.visible = on && state.layers.cameras;
      for (const part of truth) part.visible = on && state.layers.truth;
    }
    if (label) label.visible = state.groups[group.name] && state.layers.labels;
  }
  scene.redraw();
}

/** Build the checkboxes of vehicles and their views. */
function buildGroupControls(groups, state, apply, look) {
  for (const { group, views } of groups) {
    state.groups[group.name] = true;
    const row = checkbox(group.name, true, on => { state.groups[group.name] = on; apply(); }, swatch(group.colour));
    row.dataset.group = group.name;
    $("groups").append(row);
    for (const { view } of views) {
      const key = `${group.name} ${view.name}`;
      state.views[key] = true;
      if (group.views.length === 1 && !view.camera) continue;
      const line = checkbox(view.name, true, on => { state.views[key] = on; apply(); });
      line.className = "nested";
      line.dataset.view = key;
      if (view.camera) {
        const button = make("button", { type: "button", title: `look through ${key}` }, "look");
        button.addEventListener("click", event => { event.preventDefault(); look(view.camera); });
        line.append(button);
      }
      $("groups").append(line);
    }
  }
}

function buildLayerControls(layers, state, apply) {
  for (const [name, text] of layers) {
    state.layers[name] = true;
    const row = checkbox(text, true, on => { state.layers[name] = on; apply(); });
    row.dataset.layer = name;
    $("layers").append(row);
  }
}

/** Colour and size of the points, for all scenes together. */
function buildPointControls(scenes, modes, legend) {
  $("pointControls").hidden = false;
  for (const [mode, text] of modes) $("mode").append(new Option(text, mode));
  const setMode = () => {
    for (const scene of scenes) { scene.mode = $("mode").value; scene.redraw(); }
    $("legend").replaceChildren(...legend($("mode").value));
  };
  $("mode").addEventListener("change", setMode);
  $("size").value = scenes[0].size;
  $("size").addEventListener("input", () => {
    for (const scene of scenes) { scene.size = Number($("size").value); scene.redraw(); }
  });
  setMode();
}

/** Buttons and keys that move the camera; `light` changes the background. */
function buildCameraControls(scenes) {
  const act = { r: () => scenes[0].reset(), t: () => scenes[0].top() };
  $("reset").addEventListener("click", act.r);
  $("top").addEventListener("click", act.t);
  document.addEventListener("keydown", event => {
    const typing = event.target.matches("select, input:not([type=checkbox]):not([type=range])");
    if (!typing && !event.ctrlKey && !event.metaKey) act[event.key.toLowerCase()]?.();
  });
}

function backgroundControl(scenes) {
  $("layers").append(checkbox("light background", false, on => {
    for (const scene of scenes) { scene.background = on ? LIGHT : DARK; scene.redraw(); }
  }));
}

const metres = value => `${value.toFixed(Math.abs(value) < 10 ? 1 : 0)} m`;

/** Return the legend of a way of colouring points. */
function pointLegend(mode) {
  if (mode === "height") return [ramp(metres(data.heightEnds[0]), metres(data.heightEnds[1]), false, DARKEST)];
  if (mode === "value") {
    return [make("p", { className: "soft" }, `${data.valueName}; grey: unknown`), ramp("0 m", `${metres(data.valueLimit)} and more`, false, DARKEST)];
  }
  return [];
}
