// The point-cloud viewer of this package's pages: no library, no network, one canvas 2D context for each view.
// A cloud is { count, xyz (3 numbers a point), low, high (its corners) }; a paint is 3 bytes a point.

const decode = (text, Type) => new Type(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
const CAMERA = { yaw: -0.9, pitch: 0.75, zoom: 1, x: 0, y: 0 };

function hsv(h, s, v) {
  const f = n => { const k = (n + h * 6) % 6; return 255 * (v - v * s * Math.max(0, Math.min(k, 4 - k, 1))); };
  return [f(5), f(3), f(1)];
}

// Set cloud.low and cloud.high.
function measure(cloud) {
  cloud.low = [1e9, 1e9, 1e9]; cloud.high = [-1e9, -1e9, -1e9];
  for (let i = 0; i < cloud.xyz.length; i++) {
    cloud.low[i % 3] = Math.min(cloud.low[i % 3], cloud.xyz[i]); cloud.high[i % 3] = Math.max(cloud.high[i % 3], cloud.xyz[i]);
  }
  return cloud;
}

// A frame: pixels, depth and the point behind each pixel, for a canvas at its present size.
function beginFrame(frame) {
  const { canvas } = frame, ratio = Math.min(2, window.devicePixelRatio || 1), box = canvas.getBoundingClientRect();
  const width = Math.max(2, Math.round(box.width * ratio)), height = Math.max(2, Math.round(box.height * ratio));
  if (frame.width !== width || frame.height !== height) {
    frame.width = canvas.width = width; frame.height = canvas.height = height;
    frame.context = canvas.getContext("2d"); frame.image = frame.context.createImageData(width, height);
    frame.pixels = new Uint32Array(frame.image.data.buffer);
    frame.depth = new Float32Array(width * height); frame.pick = new Int32Array(width * height);
  }
  frame.ratio = ratio;
  frame.pixels.fill(0xfffaf7f5); frame.depth.fill(1e9); frame.pick.fill(-1);
}

// Draw points from..to; `hidden(i, x, y, z)` leaves points out; `size` is in CSS pixels.
function addPoints(frame, cloud, camera, paint, hidden, size, from, to) {
  const { width, height, ratio, pixels, depth, pick } = frame, { xyz, low, high } = cloud;
  const centre = low.map((value, k) => (value + high[k]) / 2);
  const radius = Math.hypot(...high.map((value, k) => value - low[k])) / 2 || 1;
  const cy = Math.cos(camera.yaw), sy = Math.sin(camera.yaw), cp = Math.cos(camera.pitch), sp = Math.sin(camera.pitch);
  const scale = 0.56 * Math.min(width, height) / radius * camera.zoom, distance = 3.2 * radius;
  const half = Math.max(1, Math.round(size * ratio * Math.sqrt(camera.zoom))) / 2;
  for (let i = from; i < to; i++) {
    const x = xyz[3 * i], y = xyz[3 * i + 1], z = xyz[3 * i + 2];
    if (hidden(i, x, y, z)) continue;
    const px = x - centre[0], py = y - centre[1], pz = z - centre[2];
    const right = cy * px - sy * py, ahead = sy * px + cy * py;
    const up = cp * pz + sp * ahead, far = cp * ahead - sp * pz + distance;
    if (far < radius * 0.1) continue;
    const zoomed = scale * distance / far;
    const sx = width / 2 + zoomed * right + camera.x * ratio, sz = height / 2 - zoomed * up + camera.y * ratio;
    const rgba = 0xff000000 | paint[3 * i + 2] << 16 | paint[3 * i + 1] << 8 | paint[3 * i];
    const x0 = Math.max(0, Math.round(sx - half)), x1 = Math.min(width - 1, Math.round(sx + half));
    const y0 = Math.max(0, Math.round(sz - half)), y1 = Math.min(height - 1, Math.round(sz + half));
    for (let v = y0; v <= y1; v++) for (let u = x0; u <= x1; u++) {
      const at = v * width + u;
      if (far < depth[at]) { depth[at] = far; pixels[at] = rgba; pick[at] = i; }
    }
  }
}

function showFrame(frame) { frame.context.putImageData(frame.image, 0, 0); }

// The point under a mouse or finger, or -1.
function pickAt(frame, event) {
  const { canvas, pick } = frame, box = canvas.getBoundingClientRect();
  const x = Math.floor((event.clientX - box.left) * canvas.width / box.width);
  const y = Math.floor((event.clientY - box.top) * canvas.height / box.height);
  return pick && x >= 0 && y >= 0 && x < canvas.width && y < canvas.height ? pick[y * canvas.width + x] : -1;
}

// Drag turns, shift-drag moves, wheel and two fingers come closer; several canvases may share a camera.
function steer(canvases, camera, moved) {
  const fingers = new Map(), closer = factor => { camera.zoom = Math.min(12, Math.max(0.3, camera.zoom * factor)); };
  for (const canvas of canvases) {
    canvas.addEventListener("pointerdown", event => {
      canvas.setPointerCapture(event.pointerId); fingers.set(event.pointerId, event);
    });
    for (const kind of ["pointerup", "pointercancel"])
      canvas.addEventListener(kind, event => fingers.delete(event.pointerId));
    canvas.addEventListener("pointermove", event => {
      const before = fingers.get(event.pointerId);
      if (!before || !event.buttons) return;
      const dx = event.clientX - before.clientX, dy = event.clientY - before.clientY;
      if (fingers.size === 2) {
        const other = [...fingers.values()].find(finger => finger.pointerId !== event.pointerId);
        const gap = finger => Math.hypot(finger.clientX - other.clientX, finger.clientY - other.clientY);
        closer(gap(event) / Math.max(1, gap(before)));
      } else if (event.shiftKey) { camera.x += dx; camera.y += dy; }
      else { camera.yaw += dx * 0.008; camera.pitch = Math.min(1.55, Math.max(-0.3, camera.pitch + dy * 0.008)); }
      fingers.set(event.pointerId, event);
      moved();
    });
    canvas.addEventListener("wheel", event => {
      event.preventDefault();
      closer(Math.exp(-event.deltaY * 0.001));
      moved();
    }, { passive: false });
  }
}
