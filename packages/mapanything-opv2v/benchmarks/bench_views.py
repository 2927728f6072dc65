"""How long a page of a 200,000-point cloud takes to open and to draw: `nox -s bench-mapanything-opv2v`.

Headless Chromium without a GPU draws in software (SwiftShader, on the processor): the times are an upper bound of what
a user with any graphics card sees.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from mapanything_opv2v import synthetic
from mapanything_opv2v.views.pointcloud import MAX_POINTS, write_pointcloud
from mapanything_opv2v.views.sources import RawOptions, load_raw_frame

FRAMES = 40
DRAW = """frames => {
  const scene = viewer.scenes[0], gl = scene.gl, pixel = new Uint8Array(4), times = [];
  for (let k = 0; k < frames; k++) {
    const start = performance.now();
    scene.camera.yaw += 3;
    scene.draw();
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);  // waits until all is drawn
    times.push(performance.now() - start);
  }
  const box = scene.canvas, started = performance.now();
  for (let k = 0; k < frames; k++) scene.pick(box.clientWidth / 2 + k, box.clientHeight / 2);
  const name = gl.getExtension("WEBGL_debug_renderer_info");
  return { times, pick: (performance.now() - started) / frames, size: [box.width, box.height],
    renderer: name ? gl.getParameter(name.UNMASKED_RENDERER_WEBGL) : "unknown" };
}"""


TURN = """frames => new Promise(done => {
  const scene = viewer.scenes[0], times = [];
  let last = performance.now();
  const step = () => {
    const now = performance.now();
    times.push(now - last);
    last = now;
    if (times.length > frames) return done({ times: times.slice(1), share: scene.share });
    scene.go({ yaw: scene.camera.yaw + 3 });
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
})"""


def main() -> int:
    """Write a page, open it, turn the camera and print milliseconds."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        print("bench_views: no Chromium on the PATH, nothing measured")
        return 0
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder:
        truth = synthetic.write_town(Path(folder) / "town", seed=1, agents=3)
        split, sequence, frame = next(truth.jobs())
        yaml = truth.root / split / sequence / str(truth.agents[0]) / f"{frame}.yaml"
        started = time.perf_counter()
        raw = load_raw_frame(yaml, RawOptions(depth_root=truth.depth_root))
        page_path = Path(folder) / "cloud.html"
        count = write_pointcloud(page_path, raw, max_points=MAX_POINTS)
        print(
            f"written in {time.perf_counter() - started:.2f} s: {count} points, {page_path.stat().st_size / 1e6:.1f} MB"
        )
        flags = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=found, args=flags)
            page = browser.new_page(viewport={"width": 1400, "height": 860})
            started = time.perf_counter()
            page.goto(page_path.as_uri())
            page.wait_for_function("window.viewer && viewer.scenes[0].matrix")
            print(f"opened in {time.perf_counter() - started:.2f} s")
            drawn = page.evaluate(DRAW, FRAMES)
            turned = page.evaluate(TURN, 3 * FRAMES)
            browser.close()
    times = sorted(drawn["times"])
    print(f"drawn by {drawn['renderer']}, {drawn['size'][0]} x {drawn['size'][1]} pixels")
    print(f"one picture of all points: median {statistics.median(times):.1f} ms, worst of {FRAMES} {times[-1]:.1f} ms")
    paces = sorted(turned["times"])
    print(
        f"while it turns: median {statistics.median(paces):.1f} ms between pictures, "
        f"{turned['share']:.0%} of the points drawn until it rests"
    )
    print(f"what is under the pointer: {drawn['pick']:.1f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
