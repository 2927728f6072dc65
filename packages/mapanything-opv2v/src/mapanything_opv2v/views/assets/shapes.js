// Lines of boxes, cameras and the grid: flat lists of coordinates, two places a segment.
const EDGES = [[0, 1], [2, 3], [4, 5], [6, 7], [0, 2], [1, 3], [4, 6], [5, 7], [0, 4], [1, 5], [2, 6], [3, 7]];

/** Return the segments of boxes whose corners stand as `boxes.box_corners` orders them, with a nose in front. */
function boxSegments(boxes) {
  return boxes.flatMap(({ corners }) => {
    const nose = [0, 1, 2].map(k => (corners[0][k] + corners[2][k]) / 2);
    const back = [0, 1, 2].map(k => (corners[4][k] + corners[6][k]) / 2);
    return [...EDGES.flatMap(([a, b]) => [...corners[a], ...corners[b]]), ...nose, ...back];
  });
}

/** Return the segments of a camera: {centre, corners: 4 places, ring: true for a panorama}. */
function frustumSegments({ centre, corners }, dashed = false) {
  const segments = corners.flatMap((corner, k) => [[centre, corner], [corner, corners[(k + 1) % corners.length]]]);
  if (!dashed) return segments.flat(2);
  const between = (a, b, t) => a.map((c, k) => c + t * (b[k] - c)), steps = [0, 1, 2, 3];
  return segments.flatMap(([a, b]) => steps.flatMap(s => [...between(a, b, s / 4), ...between(a, b, s / 4 + 0.14)]));
}

/** Return a grid on the ground around (0, 0), cell by cell: long lines that pass the camera are not drawn everywhere. */
function gridSegments(z, reach = 60, step = 10) {
  const segments = [];
  for (let at = -reach; at <= reach; at += step) {
    for (let from = -reach; from < reach; from += step) {
      segments.push(at, from, z, at, from + step, z, from, at, z, from + step, at, z);
    }
  }
  return segments;
}
