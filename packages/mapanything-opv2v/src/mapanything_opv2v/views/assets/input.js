// What pointer, wheel and hovering do to a scene.
/** Turn, move and zoom by pointer, wheel and keys; say what is under the pointer. */
function listen(scene) {
  const { canvas } = scene;
  let last = null;
  canvas.addEventListener("contextmenu", event => event.preventDefault());
  canvas.addEventListener("pointerdown", event => {
    canvas.setPointerCapture(event.pointerId);
    last = { x: event.clientX, y: event.clientY, move: event.button !== 0 || event.shiftKey };
  });
  canvas.addEventListener("pointerup", () => { last = null; });
  canvas.addEventListener("pointercancel", () => { last = null; });
  canvas.addEventListener("pointermove", event => {
    if (!last) return hover(scene, event);
    const dx = event.clientX - last.x, dy = event.clientY - last.y, c = scene.camera;
    [last.x, last.y] = [event.clientX, event.clientY];
    if (last.move) {
      const { right, up } = axes(c), metres = 2 * c.distance * Math.tan(FIELD_OF_VIEW / 2) / canvas.clientHeight;
      c.target = c.target.map((value, k) => value + metres * (up[k] * dy - right[k] * dx));
    } else {
      c.yaw -= 0.3 * dx;
      c.pitch = Math.max(-89.9, Math.min(89.9, c.pitch + 0.3 * dy));
    }
    scene.moved();
  });
  canvas.addEventListener("pointerleave", () => { scene.output.textContent = ""; });
  canvas.addEventListener("wheel", event => {
    event.preventDefault();
    scene.camera.distance = Math.max(0.5, Math.min(2000, scene.camera.distance * Math.exp(event.deltaY * 0.0012)));
    scene.moved();
  }, { passive: false });
}

function hover(scene, event) {
  const box = scene.canvas.getBoundingClientRect();
  scene.pointer = [event.clientX - box.left, event.clientY - box.top];
  scene.asking ??= requestAnimationFrame(() => {
    scene.asking = null;
    const found = scene.matrix && scene.pick(...scene.pointer);
    scene.output.textContent = found ? describe(found) : "";
  });
}

function describe({ part, index }) {
  const [x, y, z] = part.xyz.subarray(3 * index, 3 * index + 3), parts = [part.name];
  parts.push(`x ${x.toFixed(2)}, y ${y.toFixed(2)}, z ${z.toFixed(2)} m`);
  if (part.from) parts.push(`${Math.hypot(x - part.from[0], y - part.from[1], z - part.from[2]).toFixed(2)} m from its camera`);
  if (part.value && !Number.isNaN(part.value[index])) parts.push(`${data.valueName} ${part.value[index].toFixed(3)} m`);
  return parts.join(" · ");
}
