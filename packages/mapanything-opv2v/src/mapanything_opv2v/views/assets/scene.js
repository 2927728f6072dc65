// A WebGL view of points and lines: x forward, y left, z up, metres. Left drag turns, right or shift drag moves.
const DARKEST = 0.1;   // the ramp below it would not show on dark ground
const SHADERS = {
  points: [`#version 300 es
    uniform mat4 matrix; uniform int mode; uniform vec3 colour; uniform float size, reference; uniform vec2 ends;
    uniform sampler2D turbo;
    layout(location = 0) in vec3 place; layout(location = 1) in vec3 rgb; layout(location = 2) in float value;
    out vec3 shade;
    vec3 lookup(float share) { return texture(turbo, vec2(clamp(share, 0.0, 1.0) * (0.998 - ${DARKEST}) + ${DARKEST}, 0.5)).rgb; }
    void main() {
      gl_Position = matrix * vec4(place, 1.0);
      gl_PointSize = size * clamp(reference / gl_Position.w, 0.5, 4.0);
      if (mode == 0) shade = rgb;
      else if (mode == 1) shade = colour;
      else if (mode == 2) shade = lookup((place.z - ends.x) / (ends.y - ends.x));
      else shade = value < 0.0 ? vec3(0.45) : lookup((value - ends.x) / (ends.y - ends.x));
    }`, `#version 300 es
    precision mediump float; in vec3 shade; out vec4 pixel;
    void main() { pixel = vec4(shade, 1.0); }`],
  lines: [`#version 300 es
    uniform mat4 matrix; layout(location = 0) in vec3 place;
    void main() { gl_Position = matrix * vec4(place, 1.0); }`, `#version 300 es
    precision mediump float; uniform vec4 colour; out vec4 pixel;
    void main() { pixel = colour; }`],
};
const MODES = { image: 0, plain: 1, height: 2, value: 3 };
const DARK = [0.07, 0.085, 0.11], LIGHT = [0.97, 0.975, 0.98];

class Scene {
  constructor(box, start) {
    this.canvas = make("canvas");
    this.labelBox = make("div", { className: "labels" });
    this.output = make("output");
    box.append(this.canvas, this.labelBox, this.output);
    const gl = this.gl = this.canvas.getContext("webgl2", { antialias: false, alpha: false });
    if (!gl) { this.output.textContent = "This browser offers no WebGL 2; nothing can be drawn."; return; }
    this.start = start;
    this.camera = { ...start, target: [...start.target] };
    this.points = []; this.lines = []; this.labels = [];
    this.size = 2.5; this.mode = "image"; this.ends = { height: [0, 1], value: [0, 1] }; this.background = DARK;
    this.followers = [];
    this.moving = false; this.share = 1; this.lastDrawn = null;
    this.programs = Object.fromEntries(Object.entries(SHADERS).map(([name, pair]) => [name, program(gl, ...pair)]));
    this.turbo = turboTexture(gl);
    gl.enable(gl.DEPTH_TEST);
    gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
    listen(this);
    new ResizeObserver(() => this.redraw()).observe(this.canvas);
  }

  /** Add points; `value` (metres, NaN unknown) is optional. Returns the part, whose `visible` can be set. */
  addPoints({ name, xyz, rgb, value, colour }) {
    const gl = this.gl, part = { name, xyz, value, colour: colour.map(c => c / 255), visible: true };
    part.count = xyz.length / 3;
    part.array = gl.createVertexArray();
    gl.bindVertexArray(part.array);
    attribute(gl, 0, xyz, 3, gl.FLOAT, false);
    attribute(gl, 1, rgb, 3, gl.UNSIGNED_BYTE, true);
    if (value) attribute(gl, 2, value.map(v => Number.isNaN(v) ? -1 : v), 1, gl.FLOAT, false);
    else gl.vertexAttrib1f(2, -1);
    this.points.push(part);
    return part;
  }

  /** Add line segments (two points each); without a colour they stand out from the background. */
  addLines(positions, colour, alpha = 1) {
    const gl = this.gl, part = { colour: colour && [...colour.map(c => c / 255), alpha], visible: true };
    part.count = positions.length / 3;
    part.array = gl.createVertexArray();
    gl.bindVertexArray(part.array);
    attribute(gl, 0, new Float32Array(positions), 3, gl.FLOAT, false);
    this.lines.push(part);
    return part;
  }

  addLabel(text, place, colour) {
    const element = make("span", {}, text), label = { element, place, visible: true };
    if (colour) element.style.background = css(colour.map(c => Math.round(c * 0.62)));
    this.labelBox.append(element);
    this.labels.push(label);
    return label;
  }

  /** Go to a camera: {target, yaw, pitch, distance}, degrees and metres. */
  go(camera) { Object.assign(this.camera, camera, { target: [...(camera.target ?? this.camera.target)] }); this.moved(); }
  reset() { this.go(this.start); }
  top() { this.go({ pitch: 89.9, yaw: this.start.yaw, distance: Math.max(this.camera.distance, 60) }); }
  /** Look from a place along a direction. */
  lookFrom(place, forward) {
    const distance = 5, length = Math.hypot(...forward), f = forward.map(c => c / length);
    this.go({ target: place.map((c, k) => c + distance * f[k]), distance,
      yaw: Math.atan2(f[1], f[0]) * 180 / Math.PI, pitch: -Math.asin(f[2]) * 180 / Math.PI });
  }

  moved() {
    this.keepPace();
    this.redraw();
    for (const other of this.followers) { other.follow(this); }
  }
  follow({ camera }) {
    this.camera = { ...camera, target: [...camera.target] };
    this.keepPace();
    this.redraw();
  }

  /** While the camera moves, draw as many points as the machine keeps up with; all of them when it rests. */
  keepPace() {
    clearTimeout(this.rest);
    this.moving = true;
    this.rest = setTimeout(() => { this.moving = false; this.lastDrawn = null; this.redraw(); }, 200);
  }
  measurePace() {
    const now = performance.now(), passed = now - this.lastDrawn;
    if (this.lastDrawn && passed > 45) this.share = Math.max(0.1, this.share * 0.75);
    else if (this.lastDrawn && passed < 25) this.share = Math.min(1, this.share * 1.1);
    this.lastDrawn = now;
  }
  redraw() { this.waiting ??= requestAnimationFrame(() => { this.waiting = null; this.draw(); }); }

  draw() {
    const { gl, canvas } = this, ratio = Math.min(2, window.devicePixelRatio || 1);
    const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
    if (!width || !height) return;
    if (this.moving) this.measurePace();
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    gl.viewport(0, 0, width, height);
    gl.clearColor(...this.background, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    this.matrix = projection(this.camera, width / height);
    this.drawPoints(ratio);
    const { handle, at } = this.programs.lines;
    gl.useProgram(handle);
    gl.uniformMatrix4fv(at.matrix, false, this.matrix);
    gl.enable(gl.BLEND);
    for (const part of this.lines) {
      if (!part.visible) continue;
      gl.uniform4fv(at.colour, part.colour ?? (this.background === DARK ? [1, 1, 1, 1] : [0, 0, 0, 1]));
      gl.bindVertexArray(part.array);
      gl.drawArrays(gl.LINES, 0, part.count);
    }
    gl.disable(gl.BLEND);
    this.placeLabels();
  }

  drawPoints(ratio) {
    const { gl } = this, { handle, at } = this.programs.points;
    gl.useProgram(handle);
    gl.uniformMatrix4fv(at.matrix, false, this.matrix);
    gl.uniform1i(at.mode, MODES[this.mode]);
    gl.uniform1f(at.size, this.size * ratio);
    gl.uniform1f(at.reference, Math.max(15, 0.6 * this.camera.distance));
    gl.uniform2fv(at.ends, this.ends[this.mode] ?? [0, 1]);
    gl.bindTexture(gl.TEXTURE_2D, this.turbo);
    for (const part of this.points) {
      if (!part.visible) continue;
      gl.uniform3fv(at.colour, part.colour);
      gl.bindVertexArray(part.array);
      gl.drawArrays(gl.POINTS, 0, Math.ceil(part.count * (this.moving ? this.share : 1)));
    }
  }

  /** Return where a place is on the canvas: [x, y, w] in CSS pixels; w <= 0 is behind. */
  project([x, y, z]) {
    const m = this.matrix, w = m[3] * x + m[7] * y + m[11] * z + m[15];
    const u = (m[0] * x + m[4] * y + m[8] * z + m[12]) / w, v = (m[1] * x + m[5] * y + m[9] * z + m[13]) / w;
    return [(u + 1) / 2 * this.canvas.clientWidth, (1 - v) / 2 * this.canvas.clientHeight, w];
  }

  placeLabels() {
    const taken = [];
    for (const { element, place, visible } of this.labels) {
      const [x, y, w] = this.project(place);
      const inside = visible && w > 0 && x > 0 && y > 0 && x < this.canvas.clientWidth && y < this.canvas.clientHeight;
      // a label that would hide an earlier one gives way
      const free = inside && !taken.some(([a, b]) => Math.abs(a - x) < 60 && Math.abs(b - y) < 18);
      element.hidden = !free;
      if (!free) continue;
      taken.push([x, y]);
      element.style.transform = `translate(${Math.round(x)}px, ${Math.round(y)}px) translate(-50%, -140%)`;
    }
  }

  /** Return {part, index} of the nearest visible point within a few pixels of (x, y), or null. */
  pick(x, y, reach = 6) {
    let best = null, nearest = Infinity;
    const m = this.matrix, halfWidth = this.canvas.clientWidth / 2, halfHeight = this.canvas.clientHeight / 2;
    for (const part of this.points) {
      if (!part.visible) continue;
      const p = part.xyz;
      for (let i = 0, k = 0; i < part.count; i++, k += 3) {
        const w = m[3] * p[k] + m[7] * p[k + 1] + m[11] * p[k + 2] + m[15];
        if (w <= 0.05 || w >= nearest) continue;
        const u = ((m[0] * p[k] + m[4] * p[k + 1] + m[8] * p[k + 2] + m[12]) / w + 1) * halfWidth - x;
        if (u > reach || u < -reach) continue;
        const v = (1 - (m[1] * p[k] + m[5] * p[k + 1] + m[9] * p[k + 2] + m[13]) / w) * halfHeight - y;
        if (v <= reach && v >= -reach) { nearest = w; best = { part, index: i }; }
      }
    }
    return best;
  }
}

function program(gl, ...sources) {
  const handle = gl.createProgram();
  [gl.VERTEX_SHADER, gl.FRAGMENT_SHADER].forEach((kind, number) => {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, sources[number]);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
    gl.attachShader(handle, shader);
  });
  gl.linkProgram(handle);
  if (!gl.getProgramParameter(handle, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(handle));
  const at = {};
  for (let i = 0; i < gl.getProgramParameter(handle, gl.ACTIVE_UNIFORMS); i++) {
    const { name } = gl.getActiveUniform(handle, i);
    at[name] = gl.getUniformLocation(handle, name);
  }
  return { handle, at };
}

function attribute(gl, location, array, size, type, normalized) {
  gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ARRAY_BUFFER, array, gl.STATIC_DRAW);
  gl.enableVertexAttribArray(location);
  gl.vertexAttribPointer(location, size, type, normalized, 0, 0);
}

function turboTexture(gl) {
  const texture = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, texture);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, 256, 1, 0, gl.RGB, gl.UNSIGNED_BYTE, decode(data.turbo, Uint8Array));
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
  return texture;
}

/** Return right, up and forward of a camera that orbits its target. */
function axes({ yaw, pitch }) {
  const a = yaw * Math.PI / 180, b = pitch * Math.PI / 180, sa = Math.sin(a), ca = Math.cos(a);
  const forward = [Math.cos(b) * ca, Math.cos(b) * sa, -Math.sin(b)];
  return { right: [sa, -ca, 0], up: [Math.sin(b) * ca, Math.sin(b) * sa, Math.cos(b)], forward };
}

const FIELD_OF_VIEW = 50 * Math.PI / 180;

function projection(camera, aspect) {
  const { right, up, forward } = axes(camera), d = camera.distance;
  const eye = camera.target.map((c, k) => c - d * forward[k]), dot = v => v[0] * eye[0] + v[1] * eye[1] + v[2] * eye[2];
  const g = 1 / Math.tan(FIELD_OF_VIEW / 2), near = Math.max(0.05, d / 200), far = d * 4 + 2000;
  const a = (far + near) / (far - near), b = -2 * far * near / (far - near);
  // clip = [g/aspect right, g up, a forward + b, forward] . (place - eye), column by column
  const columns = [0, 1, 2].map(k => [g / aspect * right[k], g * up[k], a * forward[k], forward[k]]);
  return new Float32Array([...columns.flat(),
    -g / aspect * dot(right), -g * dot(up), -a * dot(forward) + b, -dot(forward)]);
}
